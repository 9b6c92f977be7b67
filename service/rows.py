"""Rows of numbers as JSON, .npy or an Arrow stream; at once, or page by page in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from service.accept import ARROW, JSON, NPY
from service.inference import npy

OFFERS = (JSON, NPY, ARROW)
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """What goes with the rows: their name in JSON and Arrow, whose they are, d."""

    name: str
    encoder: str
    dim: int


def whole(head: Head, rows: Rows, media: str, *, missing: frozenset[int] = frozenset()) -> bytes:
    """All rows in one piece. Missing ones are null, and NaN in .npy."""
    if media == JSON:
        return b"".join(_json(head, [_nulled(rows, missing)]))
    if media == ARROW:
        return b"".join(_arrow(head, [rows], missing=missing))
    return npy.header(len(rows), head.dim) + np.ascontiguousarray(rows, "<f4").tobytes()


def streamed(head: Head, pages: Iterable[Rows], n: int, media: str) -> Iterator[bytes]:
    """``n`` rows that come page by page."""
    if media == JSON:
        return _json(head, pages)
    if media == ARROW:
        return _arrow(head, pages)
    return _npy(head, pages, n)


def npy_length(n: int, dim: int) -> int:
    """Bytes of the .npy file."""
    return len(npy.header(n, dim)) + 4 * n * dim


def _npy(head: Head, pages: Iterable[Rows], n: int) -> Iterator[bytes]:
    yield npy.header(n, head.dim)
    for rows in pages:
        yield np.ascontiguousarray(rows, "<f4").tobytes()


def _nulled(rows: Rows, missing: frozenset[int]) -> Rows | list[Rows | None]:
    if not missing:
        return rows
    return [None if i in missing else row for i, row in enumerate(rows)]


def _json(head: Head, pages: Iterable[Rows | Sequence[Rows | None]]) -> Iterator[bytes]:
    start = orjson.dumps({"encoder": head.encoder, "dim": head.dim})
    yield start[:-1] + b"," + orjson.dumps(head.name) + b":["
    first = True
    for rows in pages:
        if len(rows) == 0:
            continue
        contiguous = np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows
        text = orjson.dumps(contiguous, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        yield text if first else b"," + text
        first = False
    yield b"]}"


def _arrow(head: Head, pages: Iterable[Rows], *, missing: frozenset[int] = frozenset()) -> Iterator[bytes]:
    import pyarrow as pa

    column = pa.field(head.name, pa.list_(pa.field("item", pa.float32(), nullable=False), head.dim))
    schema = pa.schema([column], metadata={"encoder": head.encoder, "dim": str(head.dim)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for rows in pages:
            values = pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
            mask = pa.array([i in missing for i in range(len(rows))]) if missing else None
            array = pa.FixedSizeListArray.from_arrays(values, type=column.type, mask=mask)
            writer.write_batch(pa.record_batch([array], schema=schema))
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()
