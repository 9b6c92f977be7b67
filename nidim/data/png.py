"""Whether a PNG holds all of its rows: Pillow leaves those black that a complete but short stream of pixels lacks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples a pixel."""
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, columns and rows from one to the next."""
PIECE = 1 << 16


def lacks_rows(data: bytes) -> bool:
    """Whether the pixels of the PNG ``data``, unpacked, are fewer than its header says; a damaged stream is not."""
    try:
        wanted = _unpacked(data)
        return _count(_chunks(data), wanted) < wanted
    except (struct.error, KeyError, zlib.error):
        return False


def _unpacked(data: bytes) -> int:
    """Bytes of all rows, each with its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * SAMPLES[colour]

    def size(columns: int, rows: int) -> int:
        return rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0

    if not interlaced:
        return size(width, height)
    return sum(
        size(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in PASSES
    )


def _chunks(data: bytes) -> Iterator[bytes]:
    """What the IDAT chunks hold."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        elif kind == b"IEND":
            return
        at += 12 + length


def _count(chunks: Iterator[bytes], wanted: int) -> int:
    """Bytes that they unpack to, counted up to ``wanted``, a piece in memory at a time."""
    unpacking, count = zlib.decompressobj(), 0
    for chunk in chunks:
        rest = chunk
        while count < wanted:
            got = len(unpacking.decompress(rest, PIECE))
            count += got
            rest = unpacking.unconsumed_tail
            if unpacking.eof or (not rest and got < PIECE):
                break
    return count
