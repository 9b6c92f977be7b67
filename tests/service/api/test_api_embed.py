"""Embedding: every kind of body, every kind of answer, good and bad images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

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
    from nidim.bundle import load

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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_is_read_by_content(
    api: httpx.Client, pictures: Any, image_file: Any, kind: str
) -> None:
    assert rows_of(post(api, image_file(pictures[0], kind), "image/png")).shape == (1, 2)


def odd_images() -> dict[str, bytes]:
    from PIL import Image

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    gray16 = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    return {
        "one pixel": saved(Image.new("L", (1, 1)), "PNG"),
        "16 bit": saved(gray16, "PNG"),
        "cmyk": saved(Image.new("CMYK", (20, 10)), "JPEG"),
        "palette": saved(Image.new("P", (10, 20)), "PNG"),
        "alpha": saved(Image.new("RGBA", (10, 20)), "PNG"),
        "animated": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bilevel": saved(Image.new("1", (10, 20)), "TIFF"),
    }


@pytest.mark.parametrize("name", odd_images())
def test_odd_images_are_images(api: httpx.Client, name: str) -> None:
    rows = rows_of(post(api, odd_images()[name], "image/png"))
    assert np.isfinite(rows).all()


def test_a_huge_image_is_refused_by_its_header(api: httpx.Client, is_problem: Any) -> None:
    header = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + (50_000).to_bytes(4, "big") * 2
    body = header + bytes.fromhex("0800000000") + b"\0" * 64
    answer = post(api, body, "image/png")
    assert answer.status_code in (413, 422)
    bmp = b"BM" + b"\0" * 12 + (40).to_bytes(4, "little") + (50_000).to_bytes(4, "little") * 2
    bmp += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + b"\0" * 24
    is_problem(post(api, bmp, "image/bmp"), 413, "image_too_large", "/images/0")


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
    is_problem(api.post(ROUTE), 422, "malformed_body")
    is_problem(api.post(ROUTE, files=[("pictures", file)]), 422, "invalid_value")
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
