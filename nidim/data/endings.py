"""Whether an image file ends where its format says: a decoder may be content long before.

PNG     the IEND chunk, checksum included
JPEG    the end marker behind the last scan; inside a scan FF is stuffed or a restart, so the first other marker counts
GIF     the trailer behind the first frame, or a second frame
WebP    as many bytes as the RIFF header says
BMP and TIFF are read to the last pixel or not at all, which Pillow checks.

What follows the end is ignored: telephones append films, editors their notes. A file that is damaged in another way is
not judged here: a JPEG whose scan was cut and then given its end marker is decoded, gray from there on.
"""

from __future__ import annotations

import re

IEND = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
ALONE = (0x01, 0xD8)
"""Markers without a segment."""
END_OF_IMAGE, START_OF_SCAN = 0xD9, 0xDA
EXTENSION, FRAME, TRAILER = 0x21, 0x2C, 0x3B


def ends_early(data: bytes, kind: str | None) -> bool:
    """Whether the end is missing from a file of format ``kind`` (Pillow's name)."""
    return kind in CHECKS and CHECKS[kind](data)


def _png(data: bytes) -> bool:
    return IEND not in data


def _jpeg(data: bytes) -> bool:
    at = 2
    while found := MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            return False
        if marker not in ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return True


def _gif(data: bytes) -> bool:
    at, frames = 13 + _colours(data[10:11]), 0
    while at < len(data):
        block = data[at]
        if block == TRAILER or (block == FRAME and frames):
            return False
        if block == FRAME:
            frames += 1
            at = _behind(data, at + 11 + _colours(data[at + 9 : at + 10]))
        elif block == EXTENSION:
            at = _behind(data, at + 2)
        else:
            return False  # no block that is known: damaged otherwise
    return True


def _webp(data: bytes) -> bool:
    """One byte of grace: some leave out the last padding."""
    return 8 + int.from_bytes(data[4:8], "little") > len(data) + 1


def _colours(flags: bytes) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _behind(data: bytes, at: int) -> int:
    """Where the sub-blocks that begin at ``at`` have ended."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


CHECKS = {"PNG": _png, "JPEG": _jpeg, "MPO": _jpeg, "GIF": _gif, "WEBP": _webp}
