"""Embedding: every kind of body, every kind of answer, good and bad images."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from nidim.bundle import load

ROUTE = "/v1/encoders/gauss/embed"
NPY, ARROW = "application/x-npy", "application/vnd.apache.arrow.stream"
pytestmark = pytest.mark.usefixtures("encoder")


def post(api: httpx.Client, data: bytes, kind: str = NPY, **params: Any) -> httpx.Response:
    return api.post(ROUTE, content=data, headers={"content-type": kind}, params=params)


def rows_of(answer: httpx.Response) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"], np.float32)


@pytest.fixture(scope="module")
def reference(bundles: Callable[..., Any], pictures: Any) -> np.ndarray[Any, Any]:
    """The same images through the library."""
    return load(bundles()[0]).embed(pictures[..., None].copy())


def test_every_kind_of_body_gives_the_same_rows(
    api: httpx.Client, pictures: Any, reference: Any, image_file: Any, npy: Any
) -> None:
    files = [image_file(picture) for picture in pictures]
    answers = {
        "npy (n, h, w)": post(api, npy(pictures)),
        "npy (n, h, w, 1)": post(api, npy(pictures[..., None])),
        "npy (n, h, w, 3)": post(api, npy(np.repeat(pictures[..., None], 3, axis=3))),
        "multipart": api.post(ROUTE, files=[("images", (f"{i}.png", f)) for i, f in enumerate(files)]),
        "json": api.post(ROUTE, json={"images": [base64.b64encode(f).decode() for f in files]}),
    }
    for kind, answer in answers.items():
        np.testing.assert_allclose(rows_of(answer), reference, atol=1e-6, err_msg=kind)
    raw = post(api, files[3], "image/png")
    np.testing.assert_allclose(rows_of(raw), reference[3:4], atol=1e-6)
    assert raw.json()["encoder"] == "gauss@1"
    assert raw.json()["dim"] == 2


def test_every_kind_of_answer_holds_the_same_rows(
    api: httpx.Client, pictures: Any, reference: Any, npy: Any
) -> None:
    def ask(accept: str) -> httpx.Response:
        return api.post(ROUTE, content=npy(pictures), headers={"content-type": NPY, "accept": accept})

    as_npy, as_arrow = ask(NPY), ask(ARROW)
    assert as_npy.headers["content-type"] == NPY
    rows = np.load(io.BytesIO(as_npy.content), allow_pickle=False)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, rows_of(ask("application/json")))
    table = pa.ipc.open_stream(as_arrow.content).read_all()
    np.testing.assert_array_equal(np.array(table.column(0).to_pylist(), np.float32), rows)
    np.testing.assert_array_equal(rows_of(ask("text/html, */*;q=0.5")), rows)
    assert ask("application/x-npy;q=0.2, application/json;q=0.1").headers["content-type"] == NPY
    assert ask("text/csv").status_code == 406
    assert ask("application/json;q=0").status_code == 406


def test_rows_are_the_same_whatever_the_batching(api: httpx.Client, pictures: Any, npy: Any) -> None:
    together = rows_of(post(api, npy(pictures)))
    alone = np.concatenate([rows_of(post(api, npy(pictures[i : i + 1]))) for i in range(10)])
    np.testing.assert_allclose(alone, together[:10], atol=1e-6)


def test_no_images_no_rows(api: httpx.Client, npy: Any) -> None:
    assert post(api, npy(np.zeros((0, 8, 8), np.uint8))).json()["embeddings"] == []
    empty = api.post(
        ROUTE, content=npy(np.zeros((0, 9, 9, 3), np.uint8)), headers={"content-type": NPY, "accept": NPY}
    )
    assert np.load(io.BytesIO(empty.content), allow_pickle=False).shape == (0, 2)
    assert api.post(ROUTE, json={"images": []}).json()["embeddings"] == []


def test_noise_comes_from_the_seed_and_the_row(api: httpx.Client, pictures: Any, npy: Any) -> None:
    clean = rows_of(post(api, npy(pictures)))
    noisy = rows_of(post(api, npy(pictures), noisy=True, seed=5))
    again = rows_of(post(api, npy(pictures[:7]), noisy=True, seed=5))
    np.testing.assert_allclose(noisy[:7], again, atol=1e-6)
    assert 0.01 < np.std(noisy - clean) < 1
    drawn = post(api, npy(pictures), noisy=True)
    other = rows_of(post(api, npy(pictures), noisy=True, seed=int(drawn.headers["x-seed"])))
    np.testing.assert_array_equal(rows_of(drawn), other)


def test_timing_and_batch_are_told(api: httpx.Client, pictures: Any, npy: Any) -> None:
    answer = post(api, npy(pictures))
    names = [entry.split(";")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert names == ["decode", "queue", "forward"]
    assert int(answer.headers["x-batch-size"]) >= 40


def bad_files(image_file: Callable[..., bytes], picture: Any) -> dict[str, bytes]:
    whole = image_file(picture)
    return {
        "empty": b"",
        "text": b"hello",
        "truncated": whole[: len(whole) // 2],
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pickle": b"\x80\x04K\x01.",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    }


def test_one_bad_image_is_named_or_loses_its_row(
    api: httpx.Client, pictures: Any, reference: Any, image_file: Any, is_problem: Any
) -> None:
    good = image_file(pictures[0])
    for bad in bad_files(image_file, pictures[0]).values():
        files = [("images", good), ("images", bad), ("images", good)]
        is_problem(api.post(ROUTE, files=files), 422, "bad_image", "/images/1")
        lenient = api.post(ROUTE, files=files, params={"on_error": "null"})
        assert lenient.status_code == 200
        rows = lenient.json()["embeddings"]
        assert rows[1] is None
        np.testing.assert_allclose(np.array([rows[0], rows[2]]), reference[[0, 0]], atol=1e-6)
    as_npy = api.post(ROUTE, files=files, params={"on_error": "null"}, headers={"accept": NPY})
    assert np.isnan(np.load(io.BytesIO(as_npy.content), allow_pickle=False)[1]).all()
    as_arrow = api.post(ROUTE, files=files, params={"on_error": "null"}, headers={"accept": ARROW})
    assert pa.ipc.open_stream(as_arrow.content).read_all().column(0).to_pylist()[1] is None


def test_text_that_is_not_base64_is_a_bad_image(api: httpx.Client, is_problem: Any) -> None:
    is_problem(api.post(ROUTE, json={"images": ["http://127.0.0.1/x.png"]}), 422, "bad_image", "/images/0")
    for text in ("aGk=aGk=", "a b c=", "data:text/plain;base64,aGk=", "data:image/png,aGk="):
        is_problem(api.post(ROUTE, json={"images": [text]}), 422, "bad_image", "/images/0")


def test_base64_may_come_in_lines_and_as_a_data_uri(
    api: httpx.Client, pictures: Any, image_file: Any
) -> None:
    file = image_file(pictures[0])
    plain = base64.b64encode(file).decode()
    lines = base64.encodebytes(file).decode()
    assert lines.count("\n") > 1
    texts = [
        plain,
        lines,
        lines.replace("\n", "\r\n"),
        f"data:image/png;base64,{plain}",
        f"DATA:image/png;base64,{lines}",
    ]
    rows = api.post(ROUTE, json={"images": texts}).json()["embeddings"]
    assert len(rows) == len(texts)
    assert all(row == rows[0] for row in rows)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_is_read_by_content(
    api: httpx.Client, pictures: Any, image_file: Any, kind: str
) -> None:
    assert rows_of(post(api, image_file(pictures[0], kind), "image/png")).shape == (1, 2)


@dataclass(frozen=True)
class Odd:
    """A file, the 8×8 grays that the encoder is to see of it, and what a plausible mistake would show it."""

    file: bytes
    grays: np.ndarray[Any, Any]
    mistaken: np.ndarray[Any, Any]


def saved(image: Image.Image | np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def luma(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """ITU-R 601 of (8, 8, 3)."""
    return np.rint(colours @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def odd_images() -> dict[str, Odd]:
    rng = np.random.default_rng(3)
    grays, others = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
    return {
        "one pixel": Odd(
            saved(Image.new("L", (1, 1), 77)), np.full((8, 8), 77, np.uint8), np.zeros((8, 8), np.uint8)
        ),
        "a strip": Odd(saved(np.hstack([others, grays, others])), grays, others),
        "a column": Odd(saved(np.vstack([others, grays, others])), grays, others),
        "bilevel": Odd(
            saved(Image.fromarray(grays > 127), "TIFF"),
            np.where(grays > 127, 255, 0).astype(np.uint8),
            (grays > 127).astype(np.uint8),
        ),
        "16 bit": sixteen_bit(rng),
        "16 bit TIFF": sixteen_bit(rng, "TIFF"),
        "palette": palette(rng),
        "cmyk TIFF": cmyk(rng),
        "cmyk JPEG": cmyk_jpeg(),
        "alpha": alpha(rng),
        "gray and alpha": gray_and_alpha(rng, "PNG"),
        "alpha WebP": gray_and_alpha(rng, "WEBP", lossless=True, exact=True),
        "transparent palette": transparent_palette(grays),
        **{f"animated {kind}": animated(grays, others, kind) for kind in ("GIF", "WEBP", "PNG", "TIFF")},
        **{f"turned {n}": turned(grays, n) for n in range(2, 9)},
        **{f"turned JPEG {n}": turned_jpeg(grays, n) for n in (3, 6, 8)},
    }


def sixteen_bit(rng: np.random.Generator, kind: str = "PNG") -> Odd:
    """The high byte counts; cut off at 255 nearly all would be white."""
    deep = rng.integers(0, 2**16, (8, 8), dtype=np.uint16)
    return Odd(saved(deep, kind), (deep // 256).astype(np.uint8), np.minimum(deep, 255).astype(np.uint8))


def palette(rng: np.random.Generator) -> Odd:
    """64 colours, each used once; their numbers are no grays."""
    colours = rng.integers(0, 256, (64, 3), dtype=np.uint8)
    numbers = rng.permutation(64).astype(np.uint8).reshape(8, 8)
    image = Image.frombytes("P", (8, 8), numbers.tobytes())
    image.putpalette(colours.tobytes())
    return Odd(saved(image), luma(colours[numbers]), numbers)


def cmyk(rng: np.random.Generator) -> Odd:
    """Full or no ink, black anywhere: then a part of a colour is (1 − ink)(1 − black), whatever is rounded where."""
    ink = rng.choice(np.array([0, 255], np.uint8), (8, 8, 3))
    black = rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)
    image = Image.frombytes("CMYK", (8, 8), np.concatenate([ink, black], axis=2).tobytes())
    colours = np.where(ink == 0, 255 - black, 0)
    return Odd(saved(image, "TIFF"), luma(colours), luma(255 - ink))


def cmyk_jpeg() -> Odd:
    """One colour, for JPEG is not exact; its inks are stored inverted."""
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, cyan = np.array([[255, 0, 0], [0, 255, 255]])
    return Odd(
        saved(image, "JPEG", quality=100), luma(np.full((8, 8, 3), red)), luma(np.full((8, 8, 3), cyan))
    )


FIFTHS = np.arange(6, dtype=np.uint8) * 51
"""Transparencies with which multiples of five are mixed with white without rounding."""


def over_white(
    values: np.ndarray[Any, Any], share: np.ndarray[Any, Any], ground: int = 255
) -> np.ndarray[Any, Any]:
    return (values * (share / 255) + ground * (1 - share / 255)).round().astype(np.uint8)


def alpha(rng: np.random.Generator) -> Odd:
    """Grays as RGBA; over black, or with the transparency dropped, they would be others."""
    values, share = rng.integers(0, 52, (8, 8)) * 5, rng.choice(FIFTHS, (8, 8))
    rgba = np.stack([values, values, values, share], axis=2).astype(np.uint8)
    return Odd(saved(rgba), over_white(values, share), over_white(values, share, ground=0))


def gray_and_alpha(rng: np.random.Generator, kind: str, **options: Any) -> Odd:
    values, share = (rng.integers(0, 52, (8, 8)) * 5).astype(np.uint8), rng.choice(FIFTHS, (8, 8))
    image = Image.merge("LA", [Image.fromarray(values), Image.fromarray(share)])
    return Odd(saved(image, kind, **options), over_white(values, share), values)


def transparent_palette(grays: np.ndarray[Any, Any]) -> Odd:
    """A GIF in which one colour, black, is transparent."""
    numbers = (grays > 127).astype(np.uint8)
    image = Image.frombytes("P", (8, 8), numbers.tobytes())
    image.putpalette([0, 0, 0, 90, 90, 90])
    file = saved(image, "GIF", transparency=0)
    return Odd(file, np.where(numbers, 90, 255).astype(np.uint8), np.where(numbers, 90, 0).astype(np.uint8))


def animated(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], kind: str) -> Odd:
    options = {"lossless": True} if kind == "WEBP" else {}
    file = saved(
        Image.fromarray(first), kind, save_all=True, append_images=[Image.fromarray(second)], **options
    )
    return Odd(file, first, second)


UPRIGHT: dict[int, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.rot90(stored, 1),
}
"""EXIF orientation -> from the stored pixels to the upright ones, by the standard's table of rows and columns."""


def orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif.tobytes()


def turned(stored: np.ndarray[Any, Any], number: int) -> Odd:
    return Odd(saved(stored, exif=orientation(number)), UPRIGHT[number](stored), stored)


def turned_jpeg(grays: np.ndarray[Any, Any], number: int) -> Odd:
    """What the JPEG decoder makes of the file is turned by us: JPEG is not exact."""
    file = saved(grays, "JPEG", quality=100, exif=orientation(number))
    stored = np.asarray(Image.open(io.BytesIO(file)))
    return Odd(file, UPRIGHT[number](stored), stored)


@pytest.fixture(scope="module")
def embedding_of(bundles: Callable[..., Any]) -> Callable[..., np.ndarray[Any, Any]]:
    """``embedding_of(grays)``: the library's own embedding of 8×8 pixels, (1, d)."""
    loaded = load(bundles()[0])
    return lambda grays: loaded.embed(np.ascontiguousarray(grays, dtype=np.uint8).reshape(1, 8, 8, 1))


@pytest.mark.parametrize("name", odd_images())
def test_odd_images_are_embedded_as_the_contract_has_their_pixels(
    api: httpx.Client, embedding_of: Any, name: str
) -> None:
    odd = odd_images()[name]
    rows = rows_of(post(api, odd.file, "image/png"))
    np.testing.assert_allclose(rows, embedding_of(odd.grays), atol=1e-6)
    assert np.abs(embedding_of(odd.mistaken) - rows).max() > 1e-4, "no mistake would be seen"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_a_bad_image(api: httpx.Client, is_problem: Any, kind: str, kept: float) -> None:
    whole = saved(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), kind)
    assert post(api, whole, "image/png").status_code == 200
    is_problem(post(api, whole[: int(len(whole) * kept)], "image/png"), 422, "bad_image", "/images/0")


def png(width: int, height: int) -> bytes:
    """A gray PNG that is valid but for its pixels, of which there are none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bmp(width: int, height: int) -> bytes:
    """A colour BMP without its pixels."""
    sizes = struct.pack("<IIIHH", 40, width, height, 1, 24)
    return b"BM" + b"\0" * 12 + sizes + b"\0" * 24


@pytest.mark.parametrize("make", [png, bmp])
def test_a_huge_image_is_refused_by_its_header(api: httpx.Client, is_problem: Any, make: Any) -> None:
    is_problem(post(api, make(50_000, 50_000), "image/png"), 413, "image_too_large", "/images/0")
    is_problem(post(api, make(20, 20), "image/png"), 422, "bad_image", "/images/0")  # it is the size alone


def test_the_pixel_bound_is_exact_and_names_the_image(
    server: Any, api: httpx.Client, image_file: Any, pictures: Any, is_problem: Any
) -> None:
    """One row of pixels more than the bound, between two good images."""
    bound = server.settings.max_pixels
    good = image_file(pictures[0])
    for height, status, code in (
        (bound // 1000, 422, "bad_image"),
        (bound // 1000 + 1, 413, "image_too_large"),
    ):
        files = [("images", good), ("images", png(1000, height)), ("images", good)]
        is_problem(api.post(ROUTE, files=files), status, code, "/images/1")


def test_bad_arrays_are_refused(api: httpx.Client, npy: Any, pictures: Any, is_problem: Any) -> None:
    good = npy(pictures)
    bad = {
        "float": npy(pictures.astype(np.float32)),
        "int64": npy(pictures.astype(np.int64)),
        "two axes": npy(pictures[0]),
        "five axes": npy(pictures[None, ..., None]),
        "two channels": npy(np.zeros((3, 8, 8, 2), np.uint8)),
        "no pixels": npy(np.zeros((3, 0, 8), np.uint8)),
        "fortran": npy(np.asfortranarray(pictures)),
        "trailing": good + b"\0",
        "truncated": good[:-1],
        "no magic": b"hello",
        "empty": b"",
        "lying": good.replace(b"(40, 8, 8)", b"(99, 8, 8)"),
        "object": good.replace(b"'|u1'", b"'|O' "),
    }
    for name, body in bad.items():
        answer = post(api, body)
        assert answer.status_code == 422, name
        is_problem(answer, 422, "malformed_body")


def test_bad_bodies_are_refused(api: httpx.Client, pictures: Any, image_file: Any, is_problem: Any) -> None:
    file = image_file(pictures[0])
    is_problem(post(api, b"x", "text/csv"), 415, "unsupported_media_type")
    is_problem(post(api, b"x", "image/svg+xml"), 415, "unsupported_media_type")
    absent = api.post(ROUTE)
    is_problem(absent, 422, "malformed_body")
    assert "application/json" in absent.json()["detail"], "what to send is said"
    stranger = api.post(ROUTE, files=[("pictures", file)])
    is_problem(stranger, 422, "invalid_value", "/pictures")
    assert "there are images." in stranger.json()["errors"][0]["detail"]
    is_problem(api.post(ROUTE, json={"images": "x"}), 422, "invalid_value", "/images")
    is_problem(api.post(ROUTE, json={"images": [1]}), 422, "invalid_value", "/images/0")
    is_problem(api.post(ROUTE, json={"pictures": []}), 422, "invalid_value", "/images")
    is_problem(post(api, b"{", "application/json"), 422, "malformed_body")
    is_problem(post(api, b"--x", "multipart/form-data; boundary=y"), 422, "malformed_body")
    is_problem(post(api, b"", "multipart/form-data"), 422, "malformed_body")
    compressed = {"content-type": "image/png", "content-encoding": "gzip"}
    is_problem(api.post(ROUTE, content=file, headers=compressed), 415, "unsupported_media_type")
    is_problem(post(api, file, "image/png", on_error="maybe"), 422, "invalid_value")
    is_problem(post(api, file, "image/png", noisy=True, seed=-1), 422, "invalid_value")


def test_too_many_images_or_bytes_are_refused(api: httpx.Client, npy: Any, is_problem: Any) -> None:
    is_problem(post(api, npy(np.zeros((4097, 1, 1), np.uint8))), 413, "too_large")
    is_problem(api.post(ROUTE, files=[("images", b"")] * 4097), 413, "too_large")
    is_problem(api.post(ROUTE, json={"images": [""] * 4097}), 413, "too_large")
    is_problem(post(api, b"\0" * (64 * 2**20 + 1)), 413, "too_large")

    def endless() -> Any:
        for _ in range(65):
            yield b"\0" * 2**20

    chunked = api.post(ROUTE, content=endless(), headers={"content-type": NPY})
    is_problem(chunked, 413, "too_large")


def test_an_encoder_that_is_not_there(api: httpx.Client, is_problem: Any) -> None:
    for ref in ("nothing", "gauss@2", "gauss:best", "enc_00000000000000000000000000", "gauss@x", "%2e%2e"):
        is_problem(api.post(f"/v1/encoders/{ref}/embed", content=b"x"), 404, "not_found")


@pytest.mark.parametrize("ref", ["gauss", "gauss@1", "gauss%401"])
def test_references(api: httpx.Client, pictures: Any, npy: Any, ref: str) -> None:
    answer = api.post(f"/v1/encoders/{ref}/embed", content=npy(pictures[:1]), headers={"content-type": NPY})
    assert answer.json()["encoder"] == "gauss@1"


def test_the_uniform_encoder_stays_in_its_support(
    api: httpx.Client, uniform_encoder: Any, pictures: Any, npy: Any
) -> None:
    for params in ({}, {"noisy": True, "seed": 1}):
        answer = api.post(
            "/v1/encoders/unit/embed", content=npy(pictures), headers={"content-type": NPY}, params=params
        )
        rows = rows_of(answer)
        assert ((rows >= 0) & (rows <= 1)).all()


def test_noise_of_a_later_page_begins_at_its_row(
    api: httpx.Client, pictures: Any, npy: Any, is_problem: Any
) -> None:
    whole = rows_of(post(api, npy(pictures), noisy=True, seed=5))
    page = post(api, npy(pictures[30:]), noisy=True, seed=5, offset=30)
    np.testing.assert_allclose(rows_of(page), whole[30:], atol=1e-6)
    assert (page.headers["x-seed"], page.headers["x-offset"]) == ("5", "30")
    rows_of(post(api, npy(pictures[:2]), noisy=True, seed=5, offset=2**63 - 1))
    is_problem(post(api, npy(pictures), noisy=True, seed=5, offset=2**63), 422, "invalid_value")
    is_problem(post(api, npy(pictures), noisy=True, seed=5, offset=-1), 422, "invalid_value")
