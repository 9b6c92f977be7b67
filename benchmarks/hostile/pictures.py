"""Whole image files to begin with: every format, every odd mode."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 24
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MEDIA = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}


def _pixels(channels: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [(np.sin(x / (3 + c)) + np.cos(y / (2 + c)) + 2) * 60 for c in range(channels)]
    return np.stack(waves, axis=-1).astype(np.uint8).squeeze()


def image(mode: str) -> Image.Image:
    """The same waves in any mode."""
    if mode == "I;16":
        return Image.fromarray(_pixels(1).astype(np.uint16) * 257)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode)
    if channels:
        return Image.fromarray(_pixels(channels)).convert(mode)
    return Image.fromarray(_pixels(3)).convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@functools.cache
def whole() -> tuple[tuple[str, bytes], ...]:
    """(format, file), all of them valid."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [image("L").rotate(90 * i) for i in range(4)]
    made: list[tuple[str, bytes]] = [
        *(("PNG", saved(image(mode), "PNG")) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("PNG", saved(image("P"), "PNG", transparency=3)),
        ("PNG", saved(image("RGB"), "PNG", icc_profile=b"p" * 300)),
        *(("JPEG", saved(image(mode), "JPEG")) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", saved(image("RGB"), "JPEG", progressive=True)),
        ("JPEG", saved(image("RGB"), "JPEG", exif=exif)),
        ("WEBP", saved(image("RGB"), "WEBP")),
        ("WEBP", saved(image("RGBA"), "WEBP", lossless=True)),
        ("WEBP", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])),
        *(("BMP", saved(image(mode), "BMP")) for mode in ("1", "L", "P", "RGB", "RGBA")),
        ("GIF", saved(image("P"), "GIF")),
        ("GIF", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        *(("TIFF", saved(image(mode), "TIFF")) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16")),
        *(
            ("TIFF", saved(image("RGB"), "TIFF", compression=c))
            for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        ("TIFF", saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])),
    ]
    return tuple(made)


def of(kind: str) -> list[bytes]:
    """The files of one format."""
    return [data for format_, data in whole() if format_ == kind]


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk with the right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """(name, data) of every chunk."""
    found, at = [], len(PNG_MAGIC)
    while at + 12 <= len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    return PNG_MAGIC + b"".join(chunk(name, data) for name, data in parts)


def with_header(
    png: bytes, width: int, height: int, depth: int | None = None, colour: int | None = None
) -> bytes:
    """The PNG with another size in its header, checksum right."""
    parts = chunks(png)
    old = struct.unpack(">IIBBBBB", parts[0][1])
    head = struct.pack(
        ">IIBBBBB",
        width,
        height,
        old[2] if depth is None else depth,
        old[3] if colour is None else colour,
        *old[4:],
    )
    return joined([(b"IHDR", head), *parts[1:]])
