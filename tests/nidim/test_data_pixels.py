"""The one rule from a file's bytes to pixels, kind of image by kind of image."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nidim.data import ImageLimits, pixels
from nidim.errors import BadImage, ImageTooLarge
from tests.blocks import session

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (12, 20), dtype=np.uint8)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(pixels.decode(data))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(chunks) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("source", [COLOUR, GRAY], ids=["colour", "gray"])
def test_every_format_is_read_by_content(kind: str, source: np.ndarray) -> None:
    image = pixels.decode(encoded(source, kind))
    assert image.size == (20, 12)
    assert image.mode in ("L", "RGB")
    if kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(np.asarray(image), source)


@pytest.mark.parametrize("name", ["eps", "svg", "pdf", "pcx", "ppm", "ico", "text", "html"])
def test_other_formats_are_refused_whatever_they_are_called(name: str) -> None:
    fakes = {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>',
        "text": b"no image at all",
        "html": b"<html><img src=x></html>",
    }
    data = fakes.get(name) or encoded(COLOUR, name)
    with pytest.raises(BadImage, match="not a PNG"):
        pixels.decode(data)


def test_sixteen_bits_become_the_high_eight() -> None:
    deep = RNG.integers(0, 2**16, (9, 7), dtype=np.uint16)
    assert np.array_equal(decoded(encoded(deep)), deep >> 8)
    assert np.array_equal(decoded(encoded(deep, "TIFF")), deep >> 8)
    big_endian = Image.frombytes("I;16B", (7, 9), deep.astype(">u2").tobytes())
    assert np.array_equal(decoded(encoded(big_endian, "TIFF")), deep >> 8)


def test_sixteen_bit_colour_becomes_the_same_as_sixteen_bit_gray() -> None:
    deep = RNG.integers(0, 2**16, (5, 4), dtype=np.uint16)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    colour = decoded(png(4, 5, depth=16, colour=2, data=rows))
    assert np.array_equal(colour, np.repeat((deep >> 8)[..., None], 3, axis=2))


def test_the_transparent_level_of_sixteen_bit_gray_is_white() -> None:
    deep = np.array([[1000, 40000]], np.uint16)
    key = chunk(b"tRNS", struct.pack(">H", 1000))
    data = png(2, 1, key, depth=16, data=b"\0" + deep.astype(">u2").tobytes())
    assert decoded(data).tolist() == [[255, 40000 >> 8]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused_with_advice(mode: str) -> None:
    with pytest.raises(BadImage, match="8 or 16 bits"):
        pixels.decode(encoded(Image.new(mode, (3, 3)), "TIFF"))


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(GRAY > 127)
    assert np.array_equal(decoded(encoded(image)), np.where(GRAY > 127, 255, 0))


def test_cmyk_becomes_colour() -> None:
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    image = pixels.decode(encoded(cmyk, "TIFF"))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(cmyk.convert("RGB")))
    jpeg = pixels.decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(np.asarray(jpeg).astype(int) - (255, 0, 0)).max() < 8


def test_palette_becomes_colour() -> None:
    image = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(decoded(encoded(image)), np.asarray(image.convert("RGB")))


def test_transparency_lies_over_white() -> None:
    alpha = RNG.integers(0, 256, (12, 20, 1), dtype=np.uint8)
    share = alpha / 255.0
    colour = decoded(encoded(np.concatenate([COLOUR, alpha], axis=2)))
    assert np.abs(colour - (COLOUR * share + 255 * (1 - share))).max() <= 0.51
    gray = Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha[..., 0])])
    assert pixels.decode(encoded(gray)).mode == "L"
    assert np.abs(decoded(encoded(gray)) - (GRAY * share[..., 0] + 255 * (1 - share[..., 0]))).max() <= 0.51


@pytest.mark.parametrize("transparent", [0, bytes([0, 128])], ids=["one colour", "a table"])
def test_transparent_palette_lies_over_white(transparent: Any) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 0])
    image.putpixel((1, 0), 1)
    left, right = decoded(encoded(image, transparency=transparent))[0]
    assert left.tolist() == [255, 255, 255]
    opaque = isinstance(transparent, int)
    assert right.tolist() == [200, 100, 0] if opaque else np.abs(right - [227, 177, 127]).max() <= 1


@pytest.mark.parametrize(("source", "key"), [(GRAY, int(GRAY[0, 0])), (COLOUR, tuple(COLOUR[0, 0].tolist()))])
def test_a_transparent_colour_is_white(source: np.ndarray, key: Any) -> None:
    found = decoded(encoded(source, transparency=key))
    assert (found[0, 0] == 255).all()
    other = (source != source[0, 0]) if source.ndim == 2 else (source != source[0, 0]).any(axis=2)
    assert np.array_equal(found[other], source[other])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decoded(data) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(kind: str, orientation: int) -> None:
    upright = np.kron(np.array([[0, 255, 80], [160, 30, 220]], np.uint8), np.ones((16, 16), np.uint8))
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[pixels.ORIENTATION_TAG] = orientation
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    found = decoded(encoded(np.ascontiguousarray(turned), kind, exif=exif.tobytes(), **options))
    found = found if found.ndim == 2 else found[..., 0]
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() < 40


def test_a_compressed_tiff_is_turned_once() -> None:
    exif = Image.Exif()
    exif[pixels.ORIENTATION_TAG] = 6
    data = encoded(COLOUR, "TIFF", exif=exif, compression="tiff_lzw")
    assert np.array_equal(decoded(data), np.rot90(COLOUR, -1))


def test_unreadable_metadata_is_no_metadata() -> None:
    data = encoded(GRAY, "PNG", exif=b"Exif\0\0garbage that is no TIFF header")
    assert np.array_equal(decoded(data), GRAY)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_a_bad_image(kind: str) -> None:
    noisy = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noisy, kind)
    for end in (0, 1, 4, 20, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(BadImage):
            pixels.decode(data[:end])


def test_zero_bytes_are_a_bad_image() -> None:
    with pytest.raises(BadImage, match="empty"):
        pixels.decode(b"")


def test_a_zero_sized_image_is_a_bad_image() -> None:
    with pytest.raises(BadImage):
        pixels.decode(png(0, 0))


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (8000, 8000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_header_is_refused_before_decoding(width: int, height: int) -> None:
    with pytest.raises(ImageTooLarge):
        pixels.decode(png(width, height))


def test_a_huge_header_is_refused_where_pillow_only_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageTooLarge, match="over the limit"):
            pixels.decode(png(10_000, 10_000))


def test_what_a_program_hears_from_pillow_is_its_own_affair() -> None:
    code = (
        "import warnings, PIL.Image, nidim.data.pixels\n"
        "assert PIL.Image.DecompressionBombWarning not in [kind for _, _, kind, _, _ in warnings.filters]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pixel_bound_is_the_callers() -> None:
    with pytest.raises(ImageTooLarge, match="limit of 239 pixels"):
        pixels.decode(encoded(GRAY), limits=ImageLimits(max_pixels=239))
    assert pixels.decode(encoded(GRAY), limits=ImageLimits(max_pixels=240)).size == (20, 12)


def test_a_bound_that_pillow_would_undercut_is_refused() -> None:
    with pytest.raises(ValueError, match="max_pixels"):
        ImageLimits(max_pixels=10**9)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_bomb_in_the_metadata_is_not_inflated(kind: bytes) -> None:
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    start = b"name\0\1\0\0\0" if kind == b"iTXt" else b"name\0\0"
    data = png(2, 2, chunk(kind, start + bomb), data=b"\0\0\0" * 2)
    try:
        pixels.decode(data)
    except BadImage as error:
        assert len(str(error)) < 200  # noqa: PT017  both outcomes are right: ignored or refused


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), kind=st.sampled_from(FORMATS), at=st.integers(0, 400))
def test_damage_never_raises_anything_else(data: bytes, kind: str, at: int) -> None:
    whole = encoded(COLOUR, kind)
    damaged = whole[:at] + data + whole[at + len(data) :]
    try:
        assert pixels.decode(damaged).mode in ("L", "RGB")
    except BadImage as error:
        assert 0 < len(str(error)) < 200  # noqa: PT017


def reference(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to size, then centre crop, in the plainest way."""
    width, height = image.size
    short = min(width, height)
    resized = (int(size * width / short), int(size * height / short))
    whole = np.asarray(image.resize(resized, Image.Resampling.BILINEAR))
    top, left = round((whole.shape[0] - size) / 2), round((whole.shape[1] - size) / 2)
    return whole[top : top + size, left : left + size]


@settings(max_examples=80, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 50))
def test_prepare_is_resize_and_centre_crop(width: int, height: int, size: int) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))
    found = pixels.prepare(image, size=size, channels=3)
    exact = max(width, height) <= pixels.STRIP * min(width, height)
    assert found.shape == (size, size, 3)
    assert np.abs(found.astype(int) - reference(image, size)).max() <= (0 if exact else 1)


@pytest.mark.parametrize("size", [(1, 1), (3_000_000, 1), (1, 3_000_000)])
def test_one_pixel_and_long_strips_are_valid(size: tuple[int, int]) -> None:
    found = pixels.prepare(Image.new("L", size, 77), size=512, channels=1)
    assert found.shape == (512, 512, 1)
    assert (found == 77).all()


def test_channels_are_the_encoders() -> None:
    colour, gray = Image.fromarray(COLOUR), Image.fromarray(GRAY)
    red, green, blue = (COLOUR[..., i].astype(float) for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    found = np.asarray(pixels.prepare(colour.crop((0, 0, 12, 12)), size=12, channels=1))[..., 0]
    assert np.abs(found - luma[:, :12]).max() <= 1
    replicated = pixels.prepare(gray.crop((0, 0, 12, 12)), size=12, channels=3)
    assert np.array_equal(replicated, np.repeat(GRAY[:, :12, None], 3, axis=2))


@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 9, 7, 1), (3, 9, 7, 3), (3, 9, 7, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_follow_the_same_rule_as_files(shape: tuple[int, ...], channels: int) -> None:
    images = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    found = pixels.prepare_array(images, size=5, channels=channels)
    for row, image in zip(found, images, strict=True):
        file = encoded(image[..., 0] if image.shape[2:] == (1,) else image)
        assert np.array_equal(row, pixels.to_array(file, size=5, channels=channels))


def test_an_array_of_the_right_size_stays_as_it_is() -> None:
    images = np.random.default_rng(3).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    assert np.array_equal(pixels.prepare_array(images, size=6, channels=3), images)
    assert pixels.prepare_array(images[:0], size=6, channels=1).shape == (0, 6, 6, 1)


@pytest.mark.parametrize(
    ("width", "height"), [(8, 8), (9, 8), (31, 70), (70, 31), (13, 200), (5, 7), (641, 480)]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_page_on_other_places_resizes_as_nidim_does(width: int, height: int, mode: str) -> None:
    names: dict[str, Any] = {}
    exec(session("docs/elsewhere.md", "resize"), names)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for size in (8, 32):
        ours = pixels.prepare(picture, size=size, channels=1 if mode == "L" else 3)
        theirs = np.asarray(names["prepared"](picture, size, mode)).reshape(ours.shape)
        np.testing.assert_array_equal(ours, theirs)
