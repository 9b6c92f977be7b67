"""The header of an .npy array, read without numpy's loader: no pickle, no allocation that the file asks for."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO

import numpy as np

from nidim.errors import DataError

MAGIC = b"\x93NUMPY"
HEAD = 16 * 2**10
"""A header of plain dtype is 128 bytes; one longer than this is refused."""


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """Shape and dtype; ``offset`` is where the C-ordered values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], *, name: str) -> tuple[ArrayHeader, bytes]:
    """The header of the array that ``stream`` begins with, and the first bytes of its values.

    Raises DataError for objects, Fortran order and anything that is no .npy of version 1 or 2.
    """
    head = stream.read(HEAD)
    shape, fortran, dtype, offset = _parse(head, name)
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which are never loaded; save numbers.")
    if fortran and len(shape) > 1:
        raise DataError(f"{name} is in Fortran order; save np.ascontiguousarray(array).")
    if any(side < 0 for side in shape):
        raise DataError(f"{name} has a negative side.")
    return ArrayHeader(shape=shape, dtype=dtype, offset=offset), head[offset:]


def _parse(head: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    buffer = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(buffer)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(buffer)
        else:
            raise ValueError(version)
    except Exception as exc:
        # numpy parses the header with ast.literal_eval: besides ValueError it may raise what the parser raises.
        raise DataError(f"{name} is not an .npy array of version 1 or 2.") from exc
    return tuple(int(side) for side in shape), bool(fortran), dtype, buffer.tell()
