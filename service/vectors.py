"""Rows to score as they come in JSON: ``{"embeddings": [[…], …]}`` to float32 (n, d).

While JSON is parsed, nothing else in this process runs, and a million rows take seconds. So a large body is cut after
whole rows and parsed a piece at a time, which also keeps one piece of it as Python's numbers and the rest as float32.
A row of numbers holds no bracket but its own; where the cut is wrong, the body was no list of rows, and the piece
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from service import bodies
from service.refusals import Blame, InvalidBody, MalformedBody
from service.schemas import EmbeddingsIn

Rows = NDArray[np.float32]
KEY = "embeddings"
PIECE = 1 << 17
"""Bytes that are parsed at a time."""
HEAD, TAIL = b'{"embeddings": [', b"]}"
BEGIN = re.compile(rb'\s*\{\s*"embeddings"\s*:\s*\[')
END = re.compile(rb"\]\s*\}\s*\Z")
NO_ROWS = f'A large body of rows must be {{"{KEY}": [[…], …]}} and nothing else.'
COMMA = re.compile(rb"\s*,")
PLACE = re.compile(rf"/{KEY}/(\d+)")


def read(raw: bytes, dim: int, *, piece: int = PIECE) -> Rows:
    """The rows of ``raw``, (n, ``dim``), all finite. Raises MalformedBody, InvalidBody with the places to blame."""
    if len(raw) <= piece:
        return _rows(raw, dim)
    parts: list[Rows] = []
    before = 0
    for text in _cut(raw, piece):
        if text.count(b",") > text.count(b"[") * dim + piece:
            raise InvalidBody(errors=[Blame(f"/{KEY}", f"rows of more values than the encoder's {dim}")])
        try:
            parts.append(_rows(HEAD + text + TAIL, dim))
        except InvalidBody as error:
            raise _moved(error, before) from None
        before += len(parts[-1])
    return np.concatenate(parts)


def _cut(raw: bytes, piece: int) -> Iterator[bytes]:
    """Whole rows, of about ``piece`` bytes at a time."""
    begin, end = BEGIN.match(raw), END.search(raw, max(0, len(raw) - max(piece, 1024)))
    if begin is None or end is None:
        raise MalformedBody(NO_ROWS)
    start, stop = begin.end(), end.start()
    while (last := raw.find(b"]", start + piece, stop)) >= 0:
        comma = COMMA.match(raw, last + 1, stop)
        if comma is None and raw[last + 1 : stop].strip():
            raise MalformedBody(NO_ROWS)
        yield raw[start : last + 1]
        if comma is None:
            return
        start = comma.end()
    if raw[start:stop].strip() or start == begin.end():
        yield raw[start:stop]
    else:
        raise MalformedBody(NO_ROWS)  # a comma, and no row after it


def _rows(raw: bytes, dim: int) -> Rows:
    return as_rows(bodies.parse(EmbeddingsIn, raw).embeddings, dim)


def as_rows(rows: Sequence[Sequence[float]], dim: int) -> Rows:
    """Lists of numbers as float32 (n, ``dim``), all finite. Raises InvalidBody with the place to blame."""
    for i, row in enumerate(rows):
        if len(row) != dim:
            raise InvalidBody(errors=[Blame(f"/{KEY}/{i}", f"must have {dim} values, not {len(row)}.")])
    with np.errstate(over="ignore"):
        found = np.array(rows, dtype=np.float32).reshape(len(rows), dim)
    if not np.isfinite(found).all():
        raise InvalidBody(errors=[Blame(f"/{KEY}", "Values must fit in float32.")])
    return found


def _moved(error: InvalidBody, before: int) -> InvalidBody:
    """The same refusal, where ``before`` rows stand before those of the piece."""
    if isinstance(error, MalformedBody):
        return MalformedBody(f"The JSON is damaged some way after row {before}.")

    def place(pointer: str) -> str:
        return PLACE.sub(lambda found: f"/{KEY}/{before + int(found[1])}", pointer, count=1)

    return InvalidBody(
        str(error), errors=[Blame(place(blame.pointer), blame.detail) for blame in error.errors]
    )
