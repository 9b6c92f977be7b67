""".npy bodies, read strictly: C order, the one dtype that is meant, no byte too few or too many. Never a pickle."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 4096


class BadArray(ValueError):
    """The body is not the array that is asked for; the message says what is."""


def read(data: bytes, dtype: str) -> NDArray[Any]:
    """The array in ``data``, without a copy. Raises BadArray unless it is C-ordered and of ``dtype``."""
    stream = io.BytesIO(data)
    shape, fortran_order, found = _header(stream)
    wanted = np.dtype(dtype)
    if found != wanted:
        raise BadArray(f"The array must be {wanted.name}, little-endian where that matters; it is {found}.")
    if fortran_order:
        raise BadArray("The array must be in C order; save np.ascontiguousarray(x).")
    rest = len(data) - stream.tell()
    if rest != math.prod(shape) * wanted.itemsize:
        raise BadArray(f"The header promises {math.prod(shape) * wanted.itemsize} bytes of data, not {rest}.")
    return np.frombuffer(data, dtype=wanted, offset=stream.tell()).reshape(shape)


def dtype_of(data: bytes) -> np.dtype[Any]:
    """What the header says. Raises BadArray."""
    return _header(io.BytesIO(data))[2]


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


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = readers[version](stream, max_header_size=MAX_HEADER)
    except Exception as error:  # NumPy parses the header as a Python literal, and that raises almost anything
        raise BadArray("The body is not an .npy file of version 1 or 2.") from error
    if any(not isinstance(side, int) or isinstance(side, bool) or side < 0 for side in shape):
        raise BadArray(f"The shape {shape} is not possible.")
    return shape, fortran_order, dtype
