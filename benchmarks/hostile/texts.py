"""Hostile JSON, and names and references in paths."""

from __future__ import annotations

import json

from benchmarks.hostile.cases import BAD_VALUE, SCORE, Case, Family, Rng, Statuses, as_json, pick

SAMPLE = "/v1/encoders/gauss/prior/sample"
INTERPOLATE = "/v1/encoders/gauss/prior/interpolate"
JSON_PATHS = (
    "/v1/jobs",
    SAMPLE,
    INTERPOLATE,
    SCORE,
    "/v1/embeddings",
    "/v1/encoders/gauss/embed",
    "/v1/keys",
)
JOB_REFUSED: Statuses = frozenset({409, 413, 422, 429})
LEAVES: tuple[bytes, ...] = (
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e308",
        b"-1e308",
        b"1e999",
        b"9" * 400,
        b"1e-400",
        b"-0",
        b"0.1e1",
    ),
    *(
        b"null",
        b"true",
        b'""',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\xff"',
        b"[]",
        b"{}",
        b"[[]]",
        b"-1",
        b"1e9",
        b"2.5",
    ),
    *(
        b'"http://169.254.169.254/"',
        b'"file:///etc/passwd"',
        b'"../../etc/passwd"',
        b'"os.system"',
        b'"' + b"x" * 70_000 + b'"',
    ),
    *(
        b'"__class__"',
        b'"enc_x"',
        b'"CON"',
        b'"gauss\\n"',
        b'"\xc2\xb9"',
        b"18446744073709551616",
        b"9007199254740993",
    ),
)
SPEC = {
    "dataset": b'"digits"',
    "image_size": b"8",
    "epochs": b"1",
    "batch_size": b"64",
    "seed": b"0",
    "devices": b"1",
    "encoder": b'{"kind":"conv","dim":2,"width":8}',
    "noise": b'{"kind":"gaussian","sigma":0.5}',
    "prior": b'{"kind":"gaussian"}',
    "optimizer": b"{}",
    "augmentation": b"{}",
    "critic": b'{"kind":"separable"}',
    "head": b'{"kind":"none"}',
    "method": b'{"kind":"infomax"}',
    "precision": b'"auto"',
    "evaluation": b'"quick"',
}


def document(fields: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in fields.items()) + b"}"


def deep(rng: Rng) -> Case:
    n = int(rng.integers(100, 200_000))
    opening, closing = pick(rng, [(b"[", b"]"), (b'{"a":', b"}")])  # type: ignore[misc]
    body = opening * n + b"1" + (closing * n if rng.integers(2) else b"")
    path = str(pick(rng, JSON_PATHS))
    return as_json("json/deep", path, body, frozenset({413, 422}))


def job_leaf(rng: Rng) -> Case:
    """A spec one or two of whose values are poison."""
    fields = {"dataset": SPEC["dataset"], "encoder": SPEC["encoder"], "epochs": b"1"}
    for _ in range(int(rng.integers(1, 3))):
        fields[str(pick(rng, [*SPEC, "unknown", "device", "path", "url", "__init__"]))] = pick(rng, LEAVES)  # type: ignore[assignment]
    body = document({"spec": document(fields), "encoder": b'"hostile"'})
    return as_json("json/job", "/v1/jobs", body, JOB_REFUSED | {202})


def job_number(rng: Rng) -> Case:
    """Numbers inside the parts of a spec."""
    number = pick(
        rng,
        [b"NaN", b"1e308", b"1e999", b"-1", b"0", b"1e-320", b"9" * 50, b'"1"', b"true", b"1e9", b"65537"],
    )
    part, name, kind = pick(
        rng,
        [
            ("noise", "sigma", "gaussian"),
            ("noise", "epsilon", "uniform"),
            ("encoder", "dim", "conv"),
            ("encoder", "width", "conv"),
            ("optimizer", "lr", None),
            ("optimizer", "weight_decay", None),
            ("critic", "hidden", "separable"),
            ("augmentation", "crop", None),
        ],
    )  # type: ignore[misc]
    inner = {name: number} | ({"kind": json.dumps(kind).encode()} if kind else {})
    fields = {"dataset": SPEC["dataset"], "epochs": b"1", part: document(inner)}
    body = document({"spec": document(fields), "encoder": b'"hostile"'})
    return as_json("json/job-numbers", "/v1/jobs", body, JOB_REFUSED | {202})


def sample_leaf(rng: Rng) -> Case:
    fields = {"n": b"3", "seed": b"1"} | {
        str(pick(rng, ["n", "seed", "offset", "temperature", "x"])): pick(rng, LEAVES)
    }
    return as_json("json/sample", SAMPLE, document(fields), frozenset({200, 413, 422}))  # type: ignore[arg-type]


def interpolate_leaf(rng: Rng) -> Case:
    fields = {"a": b"[0,0]", "b": b"[1,1]", "steps": b"3"}
    leaf = pick(rng, LEAVES)
    fields[str(pick(rng, list(fields)))] = b"[" + leaf + b"," + leaf + b"]" if rng.integers(2) else leaf  # type: ignore[operator, assignment]
    return as_json("json/interpolate", INTERPOLATE, document(fields), frozenset({200, 413, 422}))


def score_leaf(rng: Rng) -> Case:
    row = b"[" + pick(rng, LEAVES) + b",0]"  # type: ignore[operator]
    rows = b"[" + b",".join([b"[0.5,0.5]", row] * int(rng.integers(1, 2000))) + b"]"
    return as_json("json/score", SCORE, document({"embeddings": rows}), frozenset({200, 413, 422}))


def broken_text(rng: Rng) -> Case:
    """No JSON: cut, doubled, wrong encoding, a byte order mark, a comment."""
    good = document({"n": b"3", "seed": b"1"})
    bodies = [
        good[: int(rng.integers(1, len(good)))],
        good + good,
        good.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + good,
        b"//\n" + good,
        b"\0" + good,
        b"'" + good + b"'",
        good.replace(b":", b"="),
        b"\xff\xfe",
        b"[" + good,
        b" " * 1000,
        b"{" + b'"n":1,' * 10_000 + b'"n":2}',
    ]
    return as_json("json/broken", SAMPLE, pick(rng, bodies), frozenset({200, 413, 422}))  # type: ignore[arg-type]


def not_base64(rng: Rng) -> Case:
    """Image texts that are addresses, files, other alphabets, half a quantum."""
    texts = [
        "http://127.0.0.1/x.png",
        "file:///etc/passwd",
        "data:,x",
        "data:image/png;base64,",
        "data:text/html;base64,AAAA",
        "A",
        "====",
        "AAAA\n",
        "-_-_",
        "é",
        "\u0000",
        "data:image/png;base64,http://x/",
        "x" * 100_000,
    ]
    text = str(pick(rng, texts))
    if rng.integers(2):
        return as_json("json/not-base64", "/v1/embeddings", {"model": "gauss", "input": text}, BAD_VALUE)
    return as_json("json/not-base64", "/v1/encoders/gauss/embed", {"images": [text]}, BAD_VALUE)


def dataset_names(rng: Rng) -> Case:
    """Names in bodies that are no names."""
    from benchmarks.hostile.arrays import IMAGES, npy
    from benchmarks.hostile.cases import multipart

    names = [
        "..",
        ".",
        "a/b",
        "a\\b",
        "a\0",
        "a\n",
        "A",
        "é",
        "¹",
        "%2e",
        "enc_x",
        "job_x",
        "gen_x",
        "x" * 64,
        "",
        " a",
        "-a",
        "CON\n",
        "digits",
        "a:b",
        "a@1",
    ]
    body, headers = multipart([("name", str(pick(rng, names)).encode()), ("file", npy(IMAGES))])
    return Case(
        family="names/dataset", path="/v1/datasets", body=body, headers=headers, allowed=frozenset({409, 422})
    )


FAMILIES = (
    Family("json/deep", 2, deep),
    Family("json/job", 8, job_leaf),
    Family("json/job-numbers", 4, job_number),
    Family("json/sample", 3, sample_leaf),
    Family("json/interpolate", 3, interpolate_leaf),
    Family("json/score", 3, score_leaf),
    Family("json/broken", 2, broken_text),
    Family("json/not-base64", 2, not_base64),
    Family("names/dataset", 1, dataset_names),
)
