"""Mutants below HTTP clients: bytes on a socket that lie about their length, never end, or are no HTTP at all."""

from __future__ import annotations

import gzip

from benchmarks.hostile import pictures
from benchmarks.hostile.cases import EMBED, OK, REFUSED, Family, Rng, Statuses, Wire, multipart, pick

HOST = "Host: 127.0.0.1\r\n"
TOO_LONG: Statuses = frozenset({431})
WRITES_OFF = frozenset({400, 404, 405, 409, 413, 415, 422})
SEGMENTS = (
    *(
        "..",
        ".",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%252e%252e",
        "..%5c..",
        "..%2f",
        "%00",
        "a%00b",
        "a%0a",
        "gauss%0a",
    ),
    *(
        "gauss%0d%0a",
        "CON",
        "nul.png",
        "%e2%80%a4%e2%80%a4",
        "%ef%bc%8e%ef%bc%8e",
        "%c0%ae%c0%ae",
        "%ff",
        "%",
        "%zz",
        "gauss%20",
    ),
    *(
        "gauss@0",
        "gauss@-1",
        "gauss@01",
        "gauss@%d9%a1",
        "gauss@99999999999999999999",
        "gauss:1",
        "gauss:",
        "@1",
        ":a",
        "gauss@1:a",
    ),
    *(
        "enc_",
        "enc_" + "0" * 26,
        "job_%00",
        "x" * 300,
        "x" * 9000,
        "%f0%9f%99%82",
        "gauss;x",
        "gauss%3f",
        "gauss%23",
        "{ref}",
        "*",
    ),
)
TEMPLATES = (
    *(
        "GET /v1/encoders/{}",
        "GET /v1/encoders/{}/files",
        "GET /v1/encoders/gauss/files/{}",
        "GET /v1/encoders/{}/report",
    ),
    *(
        "DELETE /v1/encoders/{}",
        "GET /v1/jobs/{}",
        "GET /v1/jobs/{}/events",
        "POST /v1/jobs/{}/cancel",
        "POST /v1/jobs/{}/retry",
    ),
    *(
        "GET /v1/datasets/{}",
        "DELETE /v1/datasets/{}",
        "GET /v1/encoders/gauss/aliases/{}",
        "DELETE /v1/encoders/{}/aliases/x",
    ),
    *("GET /static/{}", "GET /static/../{}", "GET /{}", "POST /v1/encoders/{}/embed", "DELETE /v1/keys/{}"),
    *("GET /v1/jobs?cursor={}", "GET /v1/encoders?name={}", "GET /v1/jobs?limit={}", "GET /v1/jobs?state={}"),
)


def request(head: str, body: bytes = b"", *, length: int | None = None, more: str = "") -> bytes:
    """One request, with the length that is said."""
    said = len(body) if length is None else length
    return (
        f"{head} HTTP/1.1\r\n{HOST}Content-Length: {said}\r\n{more}Connection: close\r\n\r\n".encode() + body
    )


def paths(rng: Rng) -> Wire:
    """Dots, NULs, devices and other alphabets where a name stands."""
    head = str(pick(rng, TEMPLATES)).format(pick(rng, SEGMENTS))
    return Wire(family="wire/paths", pieces=[request(head)], allowed=REFUSED | OK | {403, 414, 431})


def lying_length(rng: Rng) -> Wire:
    """More is promised than comes, or less."""
    png = pictures.of("PNG")[1]
    more = "Content-Type: image/png\r\n"
    lie = pick(rng, [0, 1, len(png) - 1, len(png) + 1, 10**9, 10**20])
    if rng.integers(4) == 0:
        lie = str(pick(rng, ["-1", "0x10", "1e3", "abc", "", "+5", "٣"]))  # type: ignore[assignment]
    raw = f"POST {EMBED} HTTP/1.1\r\n{HOST}{more}Content-Length: {lie}\r\nConnection: close\r\n\r\n".encode()
    return Wire(family="wire/lying-length", pieces=[raw + png], allowed=REFUSED | OK)


def two_lengths(rng: Rng) -> Wire:
    """What request smuggling is made of."""
    png = pictures.of("PNG")[1]
    pairs = [
        f"Content-Length: {len(png)}\r\nContent-Length: 3\r\n",
        f"Content-Length: {len(png)}, 3\r\n",
        f"Content-Length: {len(png)}\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        f"Content-Length : {len(png)}\r\n",
        f"Content-Length:\r\n {len(png)}\r\n",
    ]
    raw = f"POST {EMBED} HTTP/1.1\r\n{HOST}Content-Type: image/png\r\n{pick(rng, pairs)}Connection: close\r\n\r\n"
    return Wire(family="wire/two-lengths", pieces=[raw.encode() + png], allowed=REFUSED | OK | {501})


def chunked(rng: Rng) -> Wire:
    """Chunks without a length: sound, lying, endless, negative, with extensions."""
    png = pictures.of("PNG")[1]
    head = (
        f"POST {EMBED} HTTP/1.1\r\n{HOST}Content-Type: image/png\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    sound = b"%x\r\n%s\r\n0\r\n\r\n" % (len(png), png)
    bodies = [
        sound,
        b"%x\r\n%s" % (len(png) * 2, png),
        b"ffffffffffffffff\r\n" + png,
        b"-1\r\n" + png,
        b"zz\r\n" + png,
        b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(png), b"e" * 70_000, png),
        b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n",
        b"0\r\nTrailer: " + b"x" * 70_000 + b"\r\n\r\n",
        b"0\r\n\r\n",
    ]
    return Wire(
        family="wire/chunked", pieces=[head.encode(), pick(rng, bodies)], allowed=REFUSED | OK | {431}
    )  # type: ignore[list-item]


def chunked_without_end(rng: Rng) -> Wire:
    """More than the limit of a JSON body, in chunks, without saying how much."""
    head = f"POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    return Wire(
        family="wire/too-long",
        pieces=[head.encode(), *[piece] * int(rng.integers(20, 60))],
        allowed=frozenset({413}),
    )


def slow_body(rng: Rng) -> Wire:
    """It begins, and then nothing more comes."""
    png = pictures.of("PNG")[1]
    raw = request(f"POST {EMBED}", png, length=len(png) + 100, more="Content-Type: image/png\r\n")
    return Wire(
        family="wire/slow-body",
        pieces=[raw, float(rng.uniform(2.0, 3.0))],
        allowed=frozenset({408}),
        closed=False,
    )


def slow_form(_: Rng) -> Wire:
    body, headers = multipart([("name", b"slow"), ("file", b"x" * 1000)])
    raw = request(
        "POST /v1/datasets",
        body[:-500],
        length=len(body),
        more=f"Content-Type: {headers['Content-Type']}\r\n",
    )
    return Wire(family="wire/slow-form", pieces=[raw, 2.5], allowed=frozenset({408}), closed=False)


def hung_up(rng: Rng) -> Wire:
    """The client goes away in the middle."""
    body, headers = multipart([("images", pictures.of("PNG")[1])] * 3)
    path = str(pick(rng, [EMBED, "/v1/datasets"]))
    raw = request(f"POST {path}", body, more=f"Content-Type: {headers['Content-Type']}\r\n")
    return Wire(family="wire/hung-up", pieces=[raw[: int(rng.integers(1, len(raw)))]], gone=True)


def many_parts(rng: Rng) -> Wire:
    """Up to 10^5 parts."""
    n = int(10 ** rng.uniform(3.65, 5))
    path = str(pick(rng, [EMBED, "/v1/datasets"]))
    name = pick(rng, ["images", "file", "x"])
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n\r\n'.encode()
    raw = request(
        f"POST {path}", part * n + b"--b--\r\n", more="Content-Type: multipart/form-data; boundary=b\r\n"
    )
    return Wire(family="wire/many-parts", pieces=[raw], allowed=frozenset({413, 422}))


def broken_form(rng: Rng) -> Wire:
    """No boundary, another boundary, no disposition, headers without end, names with NUL."""
    body, _ = multipart([("images", pictures.of("PNG")[1])])
    part = b"--b0undary\r\n"
    bodies = [
        body,
        body[:-6],
        body.replace(b"b0undary", b"other"),
        part + b"\r\n\r\n",
        part + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        part + b"X: y\r\n" * 50_000,
        part + b"Content-Disposition: form-data\r\n\r\nx",
        part + b'Content-Disposition: form-data; name="' + b"n" * 200_000 + b'"\r\n\r\nx\r\n--b0undary--',
        part
        + b'Content-Disposition: form-data; name="images\0"; filename="../../x"\r\n\r\nx\r\n--b0undary--\r\n',
        part + b": \r\n\r\n",
        b"\r\n" * 100_000 + body,
        b"--" * 100_000,
        part * 1000,
        part + b'Content-Disposition: attachment; name="images"\r\n\r\nx\r\n--b0undary--',
        part
        + b"Content-Disposition: form-data; name=\"images\"; filename*=utf-8''%00%2e%2e"
        + b"\r\n\r\nx\r\n--b0undary--\r\n",
    ]
    kinds = [
        "boundary=b0undary",
        "boundary=",
        "",
        'boundary="b0undary',
        "boundary=" + "b" * 5000,
        "boundary=b0undary; boundary=x",
        "boundary=\x01",
    ]
    kind = str(pick(rng, kinds)) if rng.integers(3) == 0 else kinds[0]
    path = str(pick(rng, [EMBED, "/v1/datasets"]))
    raw = request(f"POST {path}", pick(rng, bodies), more=f"Content-Type: multipart/form-data; {kind}\r\n")  # type: ignore[arg-type]
    return Wire(family="wire/broken-form", pieces=[raw], allowed=REFUSED | OK)


def compressed(rng: Rng) -> Wire:
    coding = str(pick(rng, ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"]))
    path = str(pick(rng, [EMBED, "/v1/jobs", "/v1/datasets", "/v1/embeddings"]))
    kind = {EMBED: "image/png", "/v1/datasets": "multipart/form-data; boundary=b"}.get(
        path, "application/json"
    )
    raw = request(
        f"POST {path}",
        gzip.compress(bytes(10**6), mtime=0),
        more=f"Content-Type: {kind}\r\nContent-Encoding: {coding}\r\n",
    )
    return Wire(family="wire/compressed", pieces=[raw], allowed=frozenset({415}), closed=False)


def huge_headers(rng: Rng) -> Wire:
    """One endless header, thousands of headers, an endless target."""
    what = int(rng.integers(3))
    size = int(10 ** rng.uniform(4, 7.3))
    if what == 0:
        raw = request("GET /v1/jobs", more=f"X-Long: {'x' * size}\r\n")
    elif what == 1:
        raw = request("GET /v1/jobs", more="X: y\r\n" * (size // 6))
    else:
        raw = request(f"GET /v1/jobs?{'x' * size}")
    return Wire(family="wire/huge-headers", pieces=[raw], allowed=TOO_LONG | OK)


def endless_headers(rng: Rng) -> Wire:
    """A request whose headers never end."""
    pieces: list[bytes | float] = [f"GET /v1/jobs HTTP/1.1\r\n{HOST}".encode()]
    pieces += [b"X-%d: " % i + b"y" * 60_000 + b"\r\n" for i in range(int(rng.integers(100, 600)))]
    return Wire(family="wire/endless-headers", pieces=pieces, allowed=TOO_LONG)


def odd_headers(rng: Rng) -> Wire:
    """Values that the routes read: keys, ranges, tags, ids, languages."""
    name = pick(
        rng,
        [
            "Authorization",
            "Range",
            "If-None-Match",
            "If-Range",
            "If-Match",
            "Accept",
            "Idempotency-Key",
            "Last-Event-ID",
            "Prefer",
            "X-Request-Id",
            "Content-Type",
            "Origin",
            "Host",
            "Cookie",
            "Expect",
        ],
    )
    value = pick(
        rng,
        [
            "\x01",
            "é",
            "Bearer",
            "Bearer " + "x" * 9000,
            "bytes=-0",
            "bytes=9-1",
            "bytes=" + "0-1," * 9000,
            "*",
            '"',
            "*/*;q=nan",
            ";;;,,,",
            "null",
            "-1",
            "9" * 30,
            "127.0.0.1:99999",
            "[::1",
            "100-continue",
            "a\tb",
            "\x7f",
        ],
    )
    head = str(
        pick(
            rng,
            [
                "GET /v1/encoders/gauss/files/model.safetensors",
                "GET /v1/jobs",
                "DELETE /v1/encoders/gauss/aliases/x",
                "POST /v1/jobs",
                "GET /v1/encoders/gauss/report",
            ],
        )
    )
    raw = request(head, more=f"{name}: {value}\r\n")
    return Wire(family="wire/odd-headers", pieces=[raw], allowed=REFUSED | OK | {206, 304, 401, 403, 417})


def no_http(rng: Rng) -> Wire:
    """Other protocols, other versions, half a line, noise."""
    things = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"\0" * 1000,
        b"G" * 100_000,
        b"SSH-2.0-x\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET http://elsewhere/v1/jobs HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        bytes(rng.integers(0, 256, 500, dtype="u1")),
        b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ]
    return Wire(family="wire/no-http", pieces=[pick(rng, things)], allowed=REFUSED | OK | {403, 426, 505})  # type: ignore[list-item]


FAMILIES = (
    Family("wire/paths", 6, paths),
    Family("wire/lying-length", 1, lying_length),
    Family("wire/two-lengths", 0.7, two_lengths),
    Family("wire/chunked", 1, chunked),
    Family("wire/too-long", 0.3, chunked_without_end),
    Family("wire/slow-body", 0.1, slow_body),
    Family("wire/slow-form", 0.1, slow_form),
    Family("wire/hung-up", 0.7, hung_up),
    Family("wire/many-parts", 0.3, many_parts),
    Family("wire/broken-form", 2, broken_form),
    Family("wire/compressed", 0.5, compressed),
    Family("wire/huge-headers", 0.5, huge_headers),
    Family("wire/endless-headers", 0.1, endless_headers),
    Family("wire/odd-headers", 3, odd_headers),
    Family("wire/no-http", 0.8, no_http),
)
