"""A file without its end is damaged, however whole its pixels are; what follows the end does no harm."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from nidim.data.endings import ends_early
from nidim.data.pixels import to_array
from nidim.errors import BadImage

WAYS = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restarts": ("JPEG", {"restart_marker_rows": 1}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}),
}


def saved(kind: str, options: dict, *, size: int = 40) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("way", WAYS)
def test_every_missing_end_is_noticed(way: str) -> None:
    kind, options = WAYS[way]
    data = saved(kind, options)
    to_array(data, size=8, channels=3)
    first = 2 if kind == "WEBP" else 1  # the last byte of a WebP may be padding
    for missing in range(first, min(len(data), 300)):
        with pytest.raises(BadImage):
            to_array(data[:-missing], size=8, channels=3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "junk", [b"\x00", b"\xff\xda\x00", b"\xff\xd8\xff\xe1", b"ftypmp42" * 999, b";", b"IEND"]
)
def test_what_follows_the_end_does_no_harm(way: str, junk: bytes) -> None:
    kind, options = WAYS[way]
    data = saved(kind, options)
    assert np.array_equal(to_array(data + junk, size=8, channels=3), to_array(data, size=8, channels=3))


def test_a_preview_inside_has_an_end_of_its_own() -> None:
    """The end marker of the thumbnail is not that of the image."""
    data = saved("JPEG", {})
    with_preview = data[:2] + b"\xff\xe1" + (2 + len(data)).to_bytes(2, "big") + data + data[2:]
    assert not ends_early(with_preview, "JPEG")
    assert ends_early(with_preview[:-1], "JPEG")


def test_animations_count_when_their_first_frame_is_whole() -> None:
    frames = [Image.new("L", (20, 20), 50 * i) for i in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert not ends_early(stream.getvalue()[:-1], "GIF")
    assert not ends_early(stream.getvalue(), "GIF")


def test_other_formats_are_left_to_the_decoder() -> None:
    assert not ends_early(b"", "BMP")
    assert not ends_early(b"", None)


def test_a_long_scan_is_searched_at_once() -> None:
    """Stuffed bytes by the million: searching takes far less than decoding them would."""
    data = b"\xff\xd8\xff\xda\x00\x02" + b"\xff\x00" * 5_000_000
    started = time.perf_counter()
    assert ends_early(data, "JPEG")
    assert time.perf_counter() - started < 30


def png(
    width: int, height: int, rows: bytes, *, colour: int = 0, depth: int = 8, interlaced: int = 0
) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    half = len(zlib.compress(rows)) // 2
    packed = [zlib.compress(rows)[:half], zlib.compress(rows)[half:]]
    body = b"".join(chunk(b"IDAT", part) for part in packed)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("there", [1, 5, 7])
@pytest.mark.parametrize(
    ("colour", "depth", "row"), [(0, 8, 8), (0, 1, 1), (0, 16, 16), (2, 8, 24), (4, 8, 16), (6, 8, 32)]
)
def test_a_png_without_all_of_its_rows_is_damaged(there: int, colour: int, depth: int, row: int) -> None:
    rows = [b"\0" + b"\xc8" * row] * 8
    to_array(png(8, 8, b"".join(rows), colour=colour, depth=depth), size=8, channels=1)
    with pytest.raises(BadImage, match=r"rows are missing|truncated"):
        to_array(png(8, 8, b"".join(rows[:there]), colour=colour, depth=depth), size=8, channels=1)


def test_a_whole_png_may_end_black() -> None:
    black = b"".join([b"\0" + b"\xc8" * 8] * 4 + [b"\0" * 9] * 4)
    assert (to_array(png(8, 8, black), size=8, channels=1)[4:] == 0).all()
    assert to_array(png(1, 100_000, b"\0\xc8" * 50_000 + b"\0\0" * 50_000), size=8, channels=1).max() <= 200
    with pytest.raises(BadImage, match="rows are missing"):
        to_array(png(1, 100_000, b"\0" * 1000), size=8, channels=1)


def test_an_interlaced_png_has_seven_passes() -> None:
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # columns and rows of each, of 8 × 8
    whole = b"".join((b"\0" + b"\xc8" * columns) * rows for columns, rows in passes)
    assert (to_array(png(8, 8, whole, interlaced=1), size=8, channels=1) == 200).all()
    with pytest.raises(BadImage, match="rows are missing"):
        to_array(png(8, 8, whole[: -9 * 2], interlaced=1), size=8, channels=1)
    narrow = b"".join((b"\0" + b"\xc8" * columns) * rows for columns, rows in [(1, 1), (1, 1), (1, 1)])
    to_array(png(1, 3, narrow, interlaced=1), size=8, channels=1)
