"""Pixels: the one rule by which a file becomes an array, for ingestion and for embedding.

    bytes --decode--> 8-bit image of mode L or RGB --prepare--> uint8 (size, size, channels)

decode   PNG, JPEG, WebP, BMP, GIF or TIFF by content, never by name; the size in the header is checked before
         anything is decoded; first frame; 16 bits become the high 8; palette and CMYK become RGB; transparency
         is laid over white; the EXIF orientation is applied.
prepare  to gray by ITU-R 601, gray to colour replicated; the shorter side to ``size`` (Pillow's bilinear filter),
         then the centre. 1×1 is valid.

A decoder may still crash or hang on hostile bytes: bulk ingestion therefore runs in a process of its own.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from nidim.data import png
from nidim.data.endings import ends_early
from nidim.data.limits import DEFAULT_LIMITS, ImageLimits
from nidim.errors import BadImage, ImageTooLarge

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
STRIP = 16
"""An image so many times longer than broad is cropped while it is resized."""
UNREADABLE = "not a PNG, JPEG, WebP, BMP, GIF or TIFF image"
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

ImageFile.LOAD_TRUNCATED_IMAGES = False


def to_array(data: bytes, *, size: int, channels: int, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """The pixels of an image file: uint8 (size, size, channels). Raises BadImage or ImageTooLarge."""
    return prepare(decode(data, limits=limits), size=size, channels=channels)


def decode(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame of an image file, upright, mode L or RGB. Raises BadImage or ImageTooLarge."""
    return finish(read_header(data, limits=limits), data)


def read_header(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS, beginning: bool = False) -> Image.Image:
    """The image with its size and mode known and checked, nothing decoded yet.

    ``beginning``: the data is only the first part of a file.
    """
    if not data:
        raise BadImage("empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except BOMBS as exc:
        raise ImageTooLarge(f"over the limit of {limits.max_pixels} pixels") from exc
    except MemoryError as exc:
        raise ImageTooLarge("reading it needs too much memory") from exc
    except UnidentifiedImageError as exc:
        raise BadImage(UNREADABLE) from exc
    except Exception as exc:
        raise BadImage(f"damaged: {_brief(exc)}") from exc
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(
            f"{image.width}×{image.height} pixels are over the limit of {limits.max_pixels} pixels"
        )
    if not beginning and ends_early(data, image.format):
        raise BadImage("truncated: the end of the file is missing")
    return image


def finish(image: Image.Image, data: bytes | None = None) -> Image.Image:
    """Decode what :func:`read_header` or Pillow opened; 8 bit, mode L or RGB, upright.

    ``data``: its file, by which a PNG without some of its rows is noticed.
    """
    try:
        image.load()
        if data is not None and image.format == "PNG" and _may_lack_rows(image) and png.lacks_rows(data):
            raise BadImage("damaged: rows are missing")
        turn = TURNS.get(_orientation(image))
        flat = _flatten(_eight_bits(image))
        return flat if turn is None else flat.transpose(turn)
    except BadImage:
        raise
    except (*BOMBS, MemoryError) as exc:
        raise ImageTooLarge("decoding it needs too much memory") from exc
    except Exception as exc:
        # Pillow's decoders raise almost anything on hostile bytes: OSError, SyntaxError, struct.error, KeyError...
        raise BadImage(f"damaged: {_brief(exc)}") from exc


def _may_lack_rows(image: Image.Image) -> bool:
    """Rows that a decoder did not find are black: where the last is not, none is missing."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return bool(image.info.get("interlace")) or last.getbbox(alpha_only=False) is None


def prepare(image: Image.Image, *, size: int, channels: int) -> np.ndarray:
    """uint8 (size, size, channels) from an image of mode L or RGB; ``channels`` is 1 or 3."""
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        image = _resize_and_crop(image, size)
    return np.array(image, dtype=np.uint8).reshape(size, size, channels)


def prepare_array(images: np.ndarray, *, size: int, channels: int) -> np.ndarray:
    """uint8 (n, size, size, channels) from uint8 (n, h, w) or (n, h, w, c), c in 1, 3, 4 (alpha over white)."""
    n, height, width = images.shape[:3]
    if (height, width) == (size, size) and (images.shape[3] if images.ndim == 4 else 1) == channels:
        return images.reshape(n, size, size, channels)
    out = np.empty((n, size, size, channels), np.uint8)
    for row, pixels in zip(out, images, strict=True):
        row[...] = prepare(from_array(pixels), size=size, channels=channels)
    return out


def from_array(pixels: np.ndarray) -> Image.Image:
    """An image of mode L or RGB from uint8 (h, w) or (h, w, c), c in 1, 3, 4."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _flatten(Image.fromarray(np.ascontiguousarray(pixels)))


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    short, long = min(width, height), max(width, height)
    resized = int(size * long / short)
    start = round((resized - size) / 2.0)
    if long > STRIP * short:
        return _centre_of_strip(image, size, start * long / resized, (start + size) * long / resized)
    if width <= height:
        return _resize(image, (size, resized)).crop((0, start, size, start + size))
    return _resize(image, (resized, size)).crop((start, 0, start + size, size))


def _centre_of_strip(image: Image.Image, size: int, low: float, high: float) -> Image.Image:
    """The same to one grey level, without the intermediate image: 1 × 50,000,000 pixels would need terabytes."""
    width, height = image.size
    high = min(high, max(width, height))
    box = (0, low, width, high) if width <= height else (low, 0, high, height)
    return _resize(image, (size, size), box)


def _resize(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=box)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:
        # Metadata that cannot be read is no metadata: the picture itself is whole.
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray to its high 8 bits, which is what Pillow does to 16-bit colour as it decodes."""
    if image.mode in ("I", "F"):
        raise BadImage("32-bit pixels have no known white: save the image with 8 or 16 bits")
    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    gray = (values >> 8).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        gray[values == key] = 255
    return Image.fromarray(gray)


def _flatten(image: Image.Image) -> Image.Image:
    """Mode L or RGB, transparency over white."""
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    layered = image.convert(mode + "A")
    flat = Image.new(mode, image.size, "white")
    flat.paste(layered.convert(mode), mask=layered.getchannel("A"))
    return flat


def _brief(exc: Exception) -> str:
    """One short printable line of what Pillow says."""
    text = "".join(c for c in str(exc) if c.isprintable())[:120]
    return text or type(exc).__name__
