"""Rows in JSON, cut at every possible place: the same rows, and the same places to blame."""

from __future__ import annotations

import json

import numpy as np
import pytest

from service import vectors
from service.refusals import InvalidBody, MalformedBody

ROWS = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
COMPACT = json.dumps({"embeddings": ROWS.tolist()}, separators=(",", ":")).encode()
AIRY = json.dumps({"embeddings": ROWS.tolist()}, indent=3).encode() + b" \n"
PIECES = (1, 20, 60, 61, 62, 63, 200, 1 << 17)


def body(*rows: object) -> bytes:
    return json.dumps({"embeddings": rows}).encode()


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("raw", [COMPACT, AIRY], ids=["compact", "airy"])
def test_rows_are_the_same_however_they_are_cut(raw: bytes, piece: int) -> None:
    np.testing.assert_array_equal(vectors.read(raw, 3, piece=piece), ROWS)
    assert vectors.read(body(), 3, piece=piece).shape == (0, 3)


@pytest.mark.parametrize("piece", PIECES)
def test_places_are_those_of_the_whole_body(piece: int) -> None:
    good = [[0.5, 0.5, 0.5]] * 9
    for bad, place in (([0.5] * 2, "/embeddings/9"), ([0.5, "x", 0.5], "/embeddings/9/1")):
        with pytest.raises(InvalidBody) as refused:
            vectors.read(body(*good, bad, *good), 3, piece=piece)
        assert [blame.pointer for blame in refused.value.errors] == [place]
    with pytest.raises(InvalidBody) as refused:
        vectors.read(body(*good, [1e300] * 3), 3, piece=piece)
    assert refused.value.errors[0].pointer == "/embeddings"


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "inner",
    [
        "[1,2,3],",
        ",[1,2,3]",
        "[1,2,3],,[1,2,3]",
        "[1,2,3] [1,2,3]",
        "[1,2,3]]",
        "[1,2,3",
        "[[1,2,3]]",
        "[1,2,[3]]",
    ],
)
def test_what_is_no_list_of_rows_is_refused_wherever_it_is_cut(inner: str, piece: int) -> None:
    for text in (f"{inner}", f"[4,5,6],{inner}", f"{inner},[4,5,6]"):
        with pytest.raises(InvalidBody):
            vectors.read(f'{{"embeddings": [{text}]}}'.encode(), 3, piece=piece)


def test_other_forms_of_a_large_body_are_refused_unparsed() -> None:
    rows = b",".join([b"[1,2,3]"] * 50)
    for raw in (
        b'{"x": 1, "embeddings": [' + rows + b"]}",
        b'{"embeddings": [' + rows + b'], "x": 1}',
        b'{"embeddings": [' + rows,
        b'{"embeddings": [[' + rows + b"]]}",
    ):
        with pytest.raises(MalformedBody):
            vectors.read(raw, 3, piece=10)
    with pytest.raises(InvalidBody) as refused:
        vectors.read(b'{"embeddings": [[' + b"0," * 5000 + b"0]]}", 3, piece=100)
    assert refused.value.errors[0].pointer == "/embeddings"
