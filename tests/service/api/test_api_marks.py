"""JSON bodies that would cost far more to parse than to send are never parsed; what is legal passes."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from service import marks
from service.images import PIECE, _unbase64
from service.refusals import Refusal
from service.settings import Settings

pytestmark = pytest.mark.usefixtures("encoder")
EMBED, SCORE, OPENAI = "/v1/encoders/gauss/embed", "/v1/encoders/gauss/prior/score", "/v1/embeddings"
KIND = {"content-type": "application/json"}
SMALL = Settings(max_embed_images=10, max_npy_values=1000)
MIB = 1 << 20


@pytest.mark.parametrize("path", [EMBED, SCORE, OPENAI])
@pytest.mark.parametrize("key", ["images", "embeddings", "input"])
def test_a_body_of_lists_is_refused_unparsed(
    server: Any, api: httpx.Client, is_problem: Any, path: str, key: str
) -> None:
    """Parsed, 30 MiB of them would take 2.6 GiB; held are the bytes that came before the last legal list."""
    body = f'{{"{key}": ['.encode() + b"[]," * (10 * MIB) + b"[]]}"
    before = server.rss_mb(peak=True)
    is_problem(api.post(path, content=body, headers=KIND), 422, "malformed_body")
    assert server.rss_mb(peak=True) - before < 200


def test_a_body_of_values_is_refused_unparsed(server: Any, api: httpx.Client, is_problem: Any) -> None:
    before = server.rss_mb(peak=True)
    for path, key in ((EMBED, "images"), (OPENAI, "input"), (SCORE, "embeddings")):
        body = f'{{"{key}": ['.encode() + b"0," * (12 * MIB) + b"0]}"
        is_problem(api.post(path, content=body, headers=KIND), 413, "too_large")
    assert server.rss_mb(peak=True) - before < 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/keys", "/v1/encoders/gauss/prior/sample"])
def test_a_mebibyte_of_unknown_keys_is_refused(api: httpx.Client, is_problem: Any, path: str) -> None:
    is_problem(api.post(path, content=unknown(70_000), headers=KIND), 422, "invalid_value")
    is_problem(api.post(path, content=b"[" * 10**6, headers=KIND), 422, "malformed_body")


def unknown(count: int) -> bytes:
    return json.dumps(dict.fromkeys(map(str, range(count)), 0)).encode()


def test_of_many_places_the_number_is_told_and_of_few_each(api: httpx.Client, is_problem: Any) -> None:
    path = "/v1/encoders/gauss/prior/interpolate"
    few = api.post(path, content=unknown(50), headers=KIND)
    is_problem(few, 422, "invalid_value", "/49")
    many = api.post(path, content=unknown(2000), headers=KIND)
    is_problem(many, 422, "invalid_value")
    assert "2002" in many.json()["detail"]  # with the two that are missing
    assert not many.json().get("errors")


def accepted(count: marks.Count, *pieces: bytes) -> bool:
    try:
        for piece in pieces:
            count(piece)
    except Refusal:
        return False
    return True


def test_the_largest_legal_bodies_are_let_through_however_they_are_cut() -> None:
    uri = b'"data:image/png;base64,AA=="'
    images = b'{"model": "m", "user": "a, b", "input": [' + b",".join([uri] * 10) + b"]}"
    rows = json.dumps({"embeddings": [[0.5] * 10] * 100}).encode()
    for make, body in ((marks.of_images, images), (marks.of_rows, rows)):
        assert accepted(make(SMALL), body)
        assert accepted(make(SMALL), *(body[i : i + 7] for i in range(0, len(body), 7)))
    assert not accepted(marks.of_images(SMALL), *[b"," * 1000] * 5)
    assert not accepted(marks.of_images(SMALL), *[b"[" * 100, b"{" * 100] * 6)
    assert not accepted(marks.of_rows(SMALL), b"," * 6000)


def test_large_base64_is_read_in_pieces_and_as_strictly() -> None:
    data = np.random.default_rng(0).bytes(PIECE + 1)
    text = base64.b64encode(data).decode()
    assert _unbase64(text) == data
    assert _unbase64(text[:-4]) == data[: (len(data) - 1) // 3 * 3]
    early = text[: PIECE - 4] + "AA==" + text[PIECE:]
    for bad in (early, text[:-1], text + "=", text[:PIECE] + "\n" + text[PIECE:], text[:PIECE] + "é"):
        assert _unbase64(bad) is None, bad[-5:]


def test_a_body_with_both_is_refused(api: httpx.Client, is_problem: Any) -> None:
    is_problem(api.post(SCORE, json={"images": [], "embeddings": [[1, 2]]}), 422, "invalid_value", "/images")
    is_problem(api.post(SCORE, json={"rows": []}), 422, "invalid_value", "/images")


def test_many_rows_are_scored_like_few(api: httpx.Client) -> None:
    """A body that is parsed in pieces."""
    rows = np.random.default_rng(0).normal(size=(20_000, 2)).tolist()
    few = api.post(SCORE, json={"embeddings": rows[-3:]}).json()
    many = api.post(SCORE, json={"embeddings": rows}).json()
    assert len(many["log_prob"]) == 20_000
    np.testing.assert_allclose(many["log_prob"][-3:], few["log_prob"], rtol=1e-6)
