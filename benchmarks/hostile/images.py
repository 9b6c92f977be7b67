"""Mutants of image files, sent to embed and score: raw, in a form, as base64, in OpenAI's shape."""

from __future__ import annotations

import io
import struct
import zlib

from benchmarks.hostile import pictures
from benchmarks.hostile.cases import (
    BAD_VALUE,
    EITHER,
    EMBED,
    OK,
    SCORE,
    TOO_LARGE,
    Case,
    Family,
    Rng,
    Statuses,
    as_json,
    cut,
    flipped,
    multipart,
    pick,
    text64,
)
from benchmarks.hostile.pictures import MEDIA, PNG_MAGIC, chunk, chunks, image, joined, saved, with_header

FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999999 9999999\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "fits": b"SIMPLE  =                    T".ljust(80)
    + b"BITPIX  =                    8".ljust(80)
    + b"NAXIS   =                    2".ljust(80)
    + b"NAXIS1  =            999999999".ljust(80)
    + b"END".ljust(2640),
    "psd": b"8BPS\x00\x01" + b"\0" * 6 + b"\x00\x03" + b"\xff" * 8 + b"\x00\x08\x00\x03" + b"\0" * 64,
    "ico": b"\x00\x00\x01\x00\xff\xff" + b"\xff" * 64,
    "icns": b"icns" + b"\xff" * 64,
    "pcx": b"\x0a\x05\x01\x08" + b"\xff" * 124,
    "ppm": b"P6 999999 999999 255\n",
    "jp2": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\xff" * 64,
    "avif": b"\x00\x00\x00\x1cftypavif" + b"\0" * 64,
    "pdf": b"%PDF-1.7\n%\xff\xff\xff\xff\n",
    "pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    "html": b"<!doctype html><script>1</script>",
    "url": b"http://169.254.169.254/latest/meta-data/",
    "elf": b"\x7fELF" + b"\0" * 60,
    "nothing": b"",
    "spaces": b" " * 1000,
}


def sent(family: str, rng: Rng, data: bytes, kind: str, allowed: Statuses) -> Case:
    """The file by one of the ways in; the type that is declared may lie."""
    way = int(rng.integers(8))
    path = SCORE if rng.integers(5) == 0 else EMBED
    if way <= 3:
        media = MEDIA[kind] if way else str(pick(rng, list(MEDIA.values())))
        return Case(family=family, path=path, body=data, headers={"Content-Type": media}, allowed=allowed)
    if way == 4:
        body, headers = multipart([("images", pictures.of("PNG")[0]), ("images", data)])
        return Case(family=family, path=path, body=body, headers=headers, allowed=allowed)
    if way == 5:
        body, headers = multipart([("images", data), ("images", pictures.of("PNG")[0])])
        path = EMBED + "?on_error=null"
        return Case(family=family, path=path, body=body, headers=headers, allowed=OK)
    if way == 6:
        return as_json(family, path, {"images": [text64(data)]}, allowed)
    uri = f"data:image/png;base64,{text64(data)}"
    return as_json(family, "/v1/embeddings", {"model": "gauss", "input": [uri]}, allowed)


def a_file(rng: Rng) -> tuple[str, bytes]:
    return pick(rng, pictures.whole())  # type: ignore[return-value]


def valid(rng: Rng) -> Case:
    kind, data = a_file(rng)
    return sent("image/valid", rng, data, kind, OK)


def bit_flips(rng: Rng) -> Case:
    kind, data = a_file(rng)
    return sent("image/bit-flips", rng, flipped(data, rng), kind, EITHER)


def header_flips(rng: Rng) -> Case:
    kind, data = a_file(rng)
    return sent("image/header-flips", rng, flipped(data, rng, 4, head=64), kind, EITHER)


def truncated(rng: Rng) -> Case:
    kind, data = a_file(rng)
    lenient = kind in ("TIFF", "WEBP") or data == pictures.of("GIF")[1]  # a first frame may be whole
    return sent("image/truncated", rng, cut(data, rng), kind, EITHER if lenient else BAD_VALUE)


def without_end(rng: Rng) -> Case:
    """Only the end is missing: no pixel, but the file is not whole."""
    kind = str(pick(rng, ["PNG", "JPEG"]))
    data = pick(rng, pictures.of(kind))
    most = 19 if kind == "PNG" else 2
    return sent("image/without-end", rng, data[: -int(rng.integers(1, most + 1))], kind, BAD_VALUE)  # type: ignore[index]


def trailing_junk(rng: Rng) -> Case:
    """What telephones append is no damage."""
    kind = str(pick(rng, ["PNG", "JPEG", "GIF"]))
    junk = bytes(rng.integers(0, 256, int(rng.integers(1, 5000)), dtype="u1"))
    return sent("image/trailing-junk", rng, pick(rng, pictures.of(kind)) + junk, kind, OK)  # type: ignore[operator]


def spliced(rng: Rng) -> Case:
    (kind, first), (_, second) = a_file(rng), a_file(rng)
    data = first[: int(rng.integers(1, len(first)))] + second[int(rng.integers(len(second))) :]
    return sent("image/spliced", rng, data, kind, EITHER)


def garbage_after_magic(rng: Rng) -> Case:
    kind, data = a_file(rng)
    keep = int(rng.integers(2, 32))
    noise = bytes(rng.integers(0, 256, int(rng.integers(1, 3000)), dtype="u1"))
    return sent("image/garbage", rng, data[:keep] + noise, kind, EITHER)


def foreign(rng: Rng) -> Case:
    """Another format, under an image's name, cut or padded."""
    data = FOREIGN[str(pick(rng, list(FOREIGN)))]
    if rng.integers(2) and data:
        data += bytes(rng.integers(0, 256, int(rng.integers(1, 200)), dtype="u1"))
    return sent("image/foreign", rng, data, str(pick(rng, list(MEDIA))), BAD_VALUE)


def png_chunks(rng: Rng) -> Case:
    """Chunks dropped, doubled, swapped, filled with something else."""
    parts = chunks(pick(rng, pictures.of("PNG")))  # type: ignore[arg-type]
    for _ in range(int(rng.integers(1, 4))):
        i, j = int(rng.integers(len(parts))), int(rng.integers(len(parts)))
        what = int(rng.integers(4))
        if what == 0 and len(parts) > 1:
            del parts[i]
        elif what == 1:
            parts.insert(j, parts[i])
        elif what == 2:
            parts[i], parts[j] = parts[j], parts[i]
        else:
            parts[i] = (parts[i][0], bytes(rng.integers(0, 256, int(rng.integers(0, 300)), dtype="u1")))
    return sent("image/png-chunks", rng, joined(parts), "PNG", EITHER)


def png_lying_chunk_length(rng: Rng) -> Case:
    data = bytearray(pick(rng, pictures.of("PNG")))  # type: ignore[arg-type]
    at = data.index(pick(rng, [b"IHDR", b"IDAT", b"IEND"])) - 4  # type: ignore[arg-type]
    lie = int(pick(rng, [0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))  # type: ignore[call-overload]
    data[at : at + 4] = struct.pack(">I", lie)
    return sent("image/png-lying-length", rng, bytes(data), "PNG", EITHER)


def huge_header(rng: Rng) -> Case:
    """A few bytes that promise 50,000 × 50,000 pixels and more."""
    side = int(rng.integers(10_000, 60_000))
    png = with_header(pictures.of("PNG")[1], side, side)
    bmp = bytearray(pictures.of("BMP")[1])
    bmp[18:26] = struct.pack("<ii", side, side)
    gif = bytearray(pictures.of("GIF")[0])
    gif[6:10] = struct.pack("<HH", side, side)
    what = int(rng.integers(3))
    kind, data = [("PNG", png), ("BMP", bytes(bmp)), ("GIF", bytes(gif))][what]
    return sent("image/huge-header", rng, data, kind, TOO_LARGE)


def lying_size(rng: Rng) -> Case:
    """The header says more or less than there is; sides of zero and beyond 31 bits."""
    sides = (0, 1, 23, 25, 4000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
    width, height = (int(pick(rng, sides)) for _ in range(2))  # type: ignore[call-overload]
    data = with_header(pick(rng, pictures.of("PNG")), width, height)  # type: ignore[arg-type]
    return sent("image/lying-size", rng, data, "PNG", EITHER)


def lying_depth(rng: Rng) -> Case:
    depth, colour = int(rng.integers(0, 20)), int(rng.integers(0, 8))
    data = with_header(pick(rng, pictures.of("PNG")), 24, 20, depth, colour)  # type: ignore[arg-type]
    return sent("image/lying-depth", rng, data, "PNG", EITHER)


def inflating(rng: Rng) -> Case:
    """Small to send, large to inflate: pixel data, text, ICC profile."""
    bomb = zlib.compress(bytes(int(rng.integers(10, 80)) * 2**20), 9)
    parts = chunks(pictures.of("PNG")[4])
    what = int(rng.integers(3))
    if what == 0:
        parts = [part for part in parts if part[0] != b"IDAT"]
        parts.insert(-1, (b"IDAT", bomb))
    elif what == 1:
        parts.insert(1, (b"zTXt", b"Comment\0\0" + bomb))
    else:
        parts.insert(1, (b"iCCP", b"p\0\0" + bomb))
    return sent("image/inflating", rng, joined(parts), "PNG", EITHER)


def many_text_chunks(rng: Rng) -> Case:
    parts = chunks(pictures.of("PNG")[1])
    text = (b"tEXt", b"k\0" + b"v" * int(rng.integers(10, 1000)))
    return sent(
        "image/many-chunks",
        rng,
        joined([parts[0], *[text] * int(rng.integers(100, 20_000)), *parts[1:]]),
        "PNG",
        EITHER,
    )


def large_plain(rng: Rng) -> Case:
    """A real image of many pixels in few bytes, at the edge of the bound."""
    side = int(rng.integers(3000, 6900))
    row = b"\0" * (1 + (side + 7) // 8)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(row * side, 1)
    png = PNG_MAGIC + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return sent("image/large", rng, png, "PNG", OK)


def thin(rng: Rng) -> Case:
    """One pixel broad, very long."""
    long = int(rng.integers(10_000, 2_000_000))
    head = struct.pack(">IIBBBBB", 1, long, 8, 0, 0, 0, 0)
    png = (
        PNG_MAGIC
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(2 * long), 1))
        + chunk(b"IEND", b"")
    )
    return sent("image/thin", rng, png, "PNG", OK)


def tiff_loop(rng: Rng) -> Case:
    """The list of directories runs in a circle, or to nowhere."""
    data = bytearray(pick(rng, pictures.of("TIFF")))  # type: ignore[arg-type]
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    after = first + 2 + 12 * count
    target = int(pick(rng, [first, 4, after, 2**31, len(data) - 1]))  # type: ignore[call-overload]
    data[after : after + 4] = struct.pack("<I", target)
    return sent("image/tiff-loop", rng, bytes(data), "TIFF", EITHER)


def tiff_tags(rng: Rng) -> Case:
    """Tags with other types, counts and offsets."""
    data = bytearray(pick(rng, pictures.of("TIFF")))  # type: ignore[arg-type]
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    for _ in range(int(rng.integers(1, 4))):
        at = first + 2 + 12 * int(rng.integers(count))
        place = int(pick(rng, [0, 2, 4, 8]))  # type: ignore[call-overload]
        size = 2 if place < 4 else 4
        lie = int(pick(rng, [0, 1, 255, 65535, 2**31, 2**32 - 1])) % 2 ** (8 * size)  # type: ignore[call-overload]
        data[at + place : at + place + size] = lie.to_bytes(size, "little")
    return sent("image/tiff-tags", rng, bytes(data), "TIFF", EITHER)


def gif_frames(rng: Rng) -> Case:
    """Thousands of frames; the first one is the image."""
    gif = pictures.of("GIF")[1]
    start = gif.index(b"\x21\xf9")
    frames = gif[start:-1] * int(rng.integers(10, 3000))
    return sent("image/gif-frames", rng, gif[:start] + frames + b";", "GIF", OK)


def jpeg_segments(rng: Rng) -> Case:
    """Metadata without end: ICC in 255 pieces, EXIF that lies, lengths that do not fit."""
    jpeg = pick(rng, pictures.of("JPEG"))
    what = int(rng.integers(4))
    if what == 0:
        count = int(rng.integers(2, 256))
        segments = b"".join(
            b"\xff\xe2"
            + struct.pack(">H", 16 + 5000)
            + b"ICC_PROFILE\0"
            + bytes([i % 256, 255])
            + b"x" * 5000
            for i in range(count)
        )
    elif what == 1:
        exif = (
            b"Exif\0\0II*\0\x08\0\0\0"
            + struct.pack("<H", 65535)
            + bytes(rng.integers(0, 256, 600, dtype="u1"))
        )
        segments = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    elif what == 2:
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack(
            "<HHHIHHI", 1, 0x0112, 3, 1, int(rng.integers(65536)), 0, 8
        )
        segments = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    else:
        segments = b"\xff\xe1" + struct.pack(">H", int(pick(rng, [0, 1, 2, 65535]))) + b"x"  # type: ignore[call-overload]
    return sent("image/jpeg-segments", rng, jpeg[:2] + segments + jpeg[2:], "JPEG", EITHER)  # type: ignore[index, operator]


def jpeg_size(rng: Rng) -> Case:
    """The frame header says another size."""
    jpeg = bytearray(pick(rng, pictures.of("JPEG")))  # type: ignore[arg-type]
    at = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    sides = (0, 1, 21, 2000, 65535)
    jpeg[at + 5 : at + 9] = struct.pack(">HH", *(int(pick(rng, sides)) for _ in range(2)))  # type: ignore[call-overload]
    return sent("image/jpeg-size", rng, bytes(jpeg), "JPEG", EITHER)


def jpeg_scans(rng: Rng) -> Case:
    """A progressive image whose last scan is repeated hundreds of times: each costs a pass over all pixels."""
    big = saved(image("L").resize((600, 600)), "JPEG", progressive=True)
    at = big.rindex(b"\xff\xda")
    return sent(
        "image/jpeg-scans",
        rng,
        big[:-2] + big[at:-2] * int(rng.integers(10, 1500)) + big[-2:],
        "JPEG",
        EITHER,
    )


def webp_header(rng: Rng) -> Case:
    data = bytearray(pick(rng, pictures.of("WEBP")))  # type: ignore[arg-type]
    what = int(rng.integers(2))
    if what:
        data[4:8] = struct.pack("<I", int(pick(rng, [0, 1, 2**31, 2**32 - 1])))  # type: ignore[call-overload]
    else:
        data[20:30] = bytes(rng.integers(0, 256, 10, dtype="u1"))
    return sent("image/webp-header", rng, bytes(data), "WEBP", EITHER)


def bmp_header(rng: Rng) -> Case:
    data = bytearray(pick(rng, pictures.of("BMP")))  # type: ignore[arg-type]
    at, size = pick(rng, [(2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (46, 4)])  # type: ignore[misc]
    lie = int(pick(rng, [0, 1, 3, 16, 255, 2**15, 2**31, 2**32 - 1])) % 2 ** (8 * size)  # type: ignore[call-overload]
    data[at : at + size] = lie.to_bytes(size, "little")
    return sent("image/bmp-header", rng, bytes(data), "BMP", EITHER)


def many_good_one_bad(rng: Rng) -> Case:
    """Forty images in a form, one of them bad: the others are answered."""
    good = [("images", pick(rng, pictures.whole())[1]) for _ in range(40)]  # type: ignore[index]
    good[int(rng.integers(40))] = ("images", flipped(cut(pictures.of("PNG")[0], rng), rng))
    body, headers = multipart(good)  # type: ignore[arg-type]
    return Case(
        family="image/one-bad-in-forty", path=EMBED + "?on_error=null", body=body, headers=headers, allowed=OK
    )


def one_by_one(rng: Rng) -> Case:
    stream = io.BytesIO()
    kind = str(pick(rng, ["PNG", "BMP", "GIF", "TIFF", "JPEG", "WEBP"]))
    image("L").resize((1, 1)).save(stream, kind)
    return sent("image/one-pixel", rng, stream.getvalue(), kind, OK)


FAMILIES = (
    Family("image/valid", 1, valid),
    Family("image/bit-flips", 8, bit_flips),
    Family("image/header-flips", 8, header_flips),
    Family("image/truncated", 8, truncated),
    Family("image/without-end", 2, without_end),
    Family("image/trailing-junk", 1, trailing_junk),
    Family("image/spliced", 4, spliced),
    Family("image/garbage", 4, garbage_after_magic),
    Family("image/foreign", 3, foreign),
    Family("image/png-chunks", 4, png_chunks),
    Family("image/png-lying-length", 2, png_lying_chunk_length),
    Family("image/huge-header", 2, huge_header),
    Family("image/lying-size", 2, lying_size),
    Family("image/lying-depth", 2, lying_depth),
    Family("image/inflating", 0.5, inflating),
    Family("image/many-chunks", 0.2, many_text_chunks),
    Family("image/large", 0.2, large_plain),
    Family("image/thin", 0.3, thin),
    Family("image/tiff-loop", 2, tiff_loop),
    Family("image/tiff-tags", 4, tiff_tags),
    Family("image/gif-frames", 0.3, gif_frames),
    Family("image/jpeg-segments", 2, jpeg_segments),
    Family("image/jpeg-size", 2, jpeg_size),
    Family("image/jpeg-scans", 0.2, jpeg_scans),
    Family("image/webp-header", 2, webp_header),
    Family("image/bmp-header", 3, bmp_header),
    Family("image/one-bad-in-forty", 0.5, many_good_one_bad),
    Family("image/one-pixel", 0.5, one_by_one),
)
