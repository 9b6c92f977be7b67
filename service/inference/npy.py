""".npy bodies, read strictly: C order, the one dtype that is meant, no byte too few or too many. Never a pickle."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 4096


class BadArray(ValueError):
    """The body is not the array that is asked for; the message says what is."""


class Header(NamedTuple):
    """What stands before the values, and where they begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int


def read(data: bytes, dtype: str) -> NDArray[Any]:
    """The array in ``data``, without a copy. Raises BadArray unless it is C-ordered and of ``dtype``."""
    head = _header(data)
    wanted = np.dtype(dtype)
    if head.dtype != wanted:
        raise BadArray(
            f"The array must be {wanted.name}, little-endian where that matters; it is {head.dtype}."
        )
    if head.fortran_order:
        raise BadArray("The array must be in C order; save np.ascontiguousarray(x).")
    size, rest = math.prod(head.shape) * wanted.itemsize, len(data) - head.offset
    if rest != size:
        raise BadArray(f"The header promises {size} bytes of data, not {rest}.")
    return np.frombuffer(data, dtype=wanted, offset=head.offset).reshape(head.shape)


def dtype_of(data: bytes) -> np.dtype[Any]:
    """What the header says. Raises BadArray."""
    return _header(data).dtype


def header(rows: int, columns: int) -> bytes:
    """The start of a float32 .npy file of this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
    )
    return stream.getvalue()


def images(data: bytes) -> NDArray[np.uint8]:
    """uint8 (n, h, w) or (n, h, w, c), c in 1, 3, 4. Raises BadArray."""
    array = read(data, "u1")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
        raise BadArray(f"The shape must be (n, h, w) or (n, h, w, c) with c in 1, 3, 4; it is {array.shape}.")
    if len(array) and 0 in array.shape:
        raise BadArray(f"Images of no pixels: the shape is {array.shape}.")
    return array


def embeddings(data: bytes, dim: int) -> NDArray[np.float32]:
    """float32 (n, dim), all finite. Raises BadArray."""
    array = read(data, "<f4")
    if array.ndim != 2 or array.shape[1] != dim:
        raise BadArray(f"The shape must be (n, {dim}); it is {array.shape}.")
    if not np.isfinite(array).all():
        raise BadArray("Every value must be a finite number.")
    return array


def _header(data: bytes) -> Header:
    """Clients send one shape again and again, and NumPy parses it as a Python literal: what was read is kept."""
    return _parsed(data[: _length(data)])


def _length(data: bytes) -> int:
    """Of the header with what precedes it; for what is none, so much that NumPy can say so."""
    width = 2 if data[6:7] == b"\x01" else 4
    told = int.from_bytes(data[8 : 8 + width], "little")
    return 8 + width + min(told, MAX_HEADER + 1)


@lru_cache(maxsize=256)
def _parsed(head: bytes) -> Header:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = readers[version](stream, max_header_size=MAX_HEADER)
    except Exception as error:  # NumPy parses the header as a Python literal, and that raises almost anything
        raise BadArray("The body is not an .npy file of version 1 or 2.") from error
    if any(not isinstance(side, int) or isinstance(side, bool) or side < 0 for side in shape):
        raise BadArray(f"The shape {shape} is not possible.")
    return Header(shape, fortran_order, dtype, stream.tell())
