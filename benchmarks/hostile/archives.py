"""Mutants of archives, uploaded as datasets. Each holds a few good images, so that some of them are still datasets."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile

from benchmarks.hostile import pictures
from benchmarks.hostile.cases import UPLOAD, Case, Family, Rng, cut, flipped, pick, upload

CREATED = frozenset({201})
NOT_CREATED = frozenset({413, 422})
NAMES = (
    *("../../etc/cron.d/x.png", "/etc/passwd.png", "C:\\boot.png", "..\\..\\x.png", "a/../../b.png"),
    *("CON.png", "nul", "a\nb.png", "a\x00b.png", "․․/x.png", "．．/x.png", "%2e%2e/x.png"),
    *("x" * 5000 + ".png", "/".join("d" * 200) + "/x.png", "\u202egnp.exe", "🙂.png", "", ".", "..", "/"),
)
DEVICES = (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR)


def good_members() -> list[tuple[str, bytes]]:
    png = pictures.of("PNG")
    return [(f"{'ab'[i % 2]}/{i}.png", png[i % 3]) for i in range(4)]


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name are wanted here
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, data)
    return stream.getvalue()


def tarred(members: list[tuple[str, bytes]], *, compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), 1, mtime=0) if compressed else stream.getvalue()


def packed(rng: Rng, members: list[tuple[str, bytes]]) -> bytes:
    what = int(rng.integers(4))
    if what < 2:
        return zipped(members, zipfile.ZIP_DEFLATED if what else zipfile.ZIP_STORED)
    return tarred(members, compressed=what == 3)


def hostile_names(rng: Rng) -> Case:
    names = [str(pick(rng, NAMES)) for _ in range(3)]
    if rng.integers(2):
        names = [name or "x" for name in names]
    data = packed(rng, [*good_members(), *((name, pictures.of("PNG")[0]) for name in names)])
    return upload("archive/names", data, CREATED)


def zip_links(rng: Rng) -> Case:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in good_members():
            archive.writestr(zipfile.ZipInfo(name), data)  # a name alone would be dated now
        info = zipfile.ZipInfo("a/link.png")
        info.external_attr = (int(pick(rng, DEVICES)) | 0o777) << 16  # type: ignore[call-overload]
        archive.writestr(info, "/etc/passwd")
    return upload("archive/zip-links", stream.getvalue(), CREATED)


def tar_links(rng: Rng) -> Case:
    stream = io.BytesIO()
    kinds = (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    )
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in good_members():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("a/link.png")
        info.type = pick(rng, kinds)  # type: ignore[assignment]
        info.linkname = str(pick(rng, ["/etc/passwd", "../../x", "a/0.png", ""]))
        archive.addfile(info)
    return upload("archive/tar-links", stream.getvalue(), UPLOAD)


def doubled_names(rng: Rng) -> Case:
    members = good_members()
    return upload("archive/doubled", packed(rng, members + members[: int(rng.integers(1, 4))]), CREATED)


def bomb(rng: Rng) -> Case:
    zeros = bytes(int(rng.integers(20, 60)) * 2**20)
    members = [*good_members(), ("a/big.png", zeros)]
    data = gzip.compress(tarred(members), 9, mtime=0) if rng.integers(2) else zipped(members)
    return upload("archive/bomb", data, UPLOAD)


def nested(rng: Rng) -> Case:
    data = zipped([("x.bin", bytes(2**20))])
    for _ in range(int(rng.integers(2, 30))):
        data = zipped([(f"{i}.zip", data) for i in range(2)])[: 2**22]
    return upload("archive/nested", packed(rng, [*good_members(), ("a/n.zip", data)]), CREATED)


def overlapping(rng: Rng) -> Case:
    """Many entries of the directory that share one member: 42.zip without nesting."""
    kernel = zipped([("k", bytes(2**20 * int(rng.integers(1, 16))))])
    end = kernel.rindex(b"PK\x05\x06")
    start = kernel.index(b"PK\x01\x02")
    entry = kernel[start:end]
    n = int(rng.integers(100, 20_000))
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, n, n, n * len(entry), start, 0)
    return upload("archive/overlapping", kernel[:start] + entry * n + tail, NOT_CREATED)


def lying_directory(rng: Rng) -> Case:
    """Fields of the central directory and of its end, overwritten."""
    data = bytearray(zipped(good_members()))
    marks = [
        i for i in range(len(data) - 4) if data[i : i + 4] in (b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04")
    ]
    for _ in range(int(rng.integers(1, 4))):
        at = int(pick(rng, marks)) + int(rng.integers(4, 46))  # type: ignore[call-overload]
        size = int(pick(rng, [1, 2, 4]))  # type: ignore[call-overload]
        lie = int(pick(rng, [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])) % 2 ** (8 * size)  # type: ignore[call-overload]
        data[at : at + size] = lie.to_bytes(size, "little")[: max(0, len(data) - at)]
    return upload("archive/lying-directory", bytes(data))


def lying_zip64(rng: Rng) -> Case:
    """Sizes of 2^63 in an extra field."""
    extra = struct.pack("<HHQQQ", 1, 24, *(int(pick(rng, [0, 1, 2**40, 2**63, 2**64 - 1])) for _ in range(3)))  # type: ignore[call-overload]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in good_members():
            archive.writestr(zipfile.ZipInfo(name), data)
        info = zipfile.ZipInfo("a/64.png")
        info.extra = extra
        archive.writestr(info, pictures.of("PNG")[0])
    data = bytearray(stream.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = b"\xff" * 8
    return upload("archive/lying-zip64", bytes(data))


def encrypted(rng: Rng) -> Case:
    data = bytearray(zipped(good_members()))
    bit = int(pick(rng, [0x1, 0x41, 0x2000]))  # type: ignore[call-overload]
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + offset : at + offset + 2] = struct.pack("<H", bit)
    return upload("archive/encrypted", bytes(data), NOT_CREATED)


def other_method(rng: Rng) -> Case:
    method = int(pick(rng, [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))  # type: ignore[call-overload]
    return upload("archive/method", zipped(good_members(), method), NOT_CREATED)


def shortened(rng: Rng) -> Case:
    return upload("archive/truncated", cut(packed(rng, good_members()), rng))


def bit_flips(rng: Rng) -> Case:
    return upload("archive/bit-flips", flipped(packed(rng, good_members()), rng, 24))


def tar_headers(rng: Rng) -> Case:
    """Bytes of a tar header overwritten, its checksum made right again."""
    data = bytearray(tarred(good_members()))
    header = bytearray(data[:512])
    field = pick(rng, [(100, 8), (124, 12), (136, 12), (156, 1), (257, 6), (345, 155), (0, 100)])
    at, size = field  # type: ignore[misc]
    junk = pick(rng, [b"\xff", b"7", b"-", b"\x80" + b"\xff", b"\0", b"L", b"x", b"K", b"S", b"g"])
    header[at : at + size] = (junk * size)[:size]  # type: ignore[operator]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[:512] = header
    return upload("archive/tar-headers", bytes(data))


def pax(rng: Rng) -> Case:
    """Extended headers that promise sizes, or are huge themselves, and sparse files of a terabyte."""
    stream = io.BytesIO()
    lies = {
        "size": str(pick(rng, ["9" * 30, "-1", "1e9", "NaN", "99999999999"])),
        "path": str(pick(rng, ["../../x.png", "x" * 100_000, "a\nb"])),
        "GNU.sparse.realsize": "1099511627776",
        "GNU.sparse.map": "0,1," * 1000,
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "mtime": str(pick(rng, ["inf", "nan", "9" * 400])),
        "comment": "c" * int(rng.integers(1, 3_000_000)),
    }
    chosen = {key: value for key, value in lies.items() if rng.integers(2)}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, (name, data) in enumerate(good_members()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if number == 2:
                info.pax_headers = chosen
            archive.addfile(info, io.BytesIO(data))
    return upload("archive/pax", stream.getvalue())


def many_members(rng: Rng) -> Case:
    n = int(rng.integers(1000, 20_000))
    data = packed(rng, [*good_members(), *((f"c/{i}", b"") for i in range(n))])
    return upload("archive/many-members", data, CREATED)


def comment(rng: Rng) -> Case:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in good_members():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = bytes(rng.integers(0, 256, 65_535, dtype="u1"))
    return upload("archive/comment", stream.getvalue())


def of_mutants(rng: Rng) -> Case:
    """A sound archive of damaged images: they are skipped and counted."""
    bad = [flipped(cut(pick(rng, pictures.whole())[1], rng) or b"x", rng) for _ in range(20)]  # type: ignore[index]
    members = [*good_members(), *((f"a/m{i}", data) for i, data in enumerate(bad))]
    return upload("archive/of-mutants", packed(rng, members), CREATED)


def no_archive(rng: Rng) -> Case:
    """A torch checkpoint, a pickle, a script, a single image, nothing."""
    things = [
        b"\x80\x02}q\x00.",
        b"#!/bin/sh\nid\n",
        pictures.of("PNG")[0],
        b"",
        b"PK",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"Rar!\x1a\x07\x00",
        b"7z\xbc\xaf\x27\x1c",
        b"\xfd7zXZ\x00",
        b"BZh9",
        zipped([("archive/data.pkl", b"\x80\x02."), ("archive/version", b"3\n")]),
        gzip.compress(b"no tar", mtime=0),
        gzip.compress(b"", mtime=0),
    ]
    return upload("archive/none", pick(rng, things), NOT_CREATED)  # type: ignore[arg-type]


FAMILIES = (
    Family("archive/names", 1, hostile_names),
    Family("archive/zip-links", 0.7, zip_links),
    Family("archive/tar-links", 0.7, tar_links),
    Family("archive/doubled", 0.4, doubled_names),
    Family("archive/bomb", 0.5, bomb),
    Family("archive/nested", 0.4, nested),
    Family("archive/overlapping", 0.4, overlapping),
    Family("archive/lying-directory", 1.5, lying_directory),
    Family("archive/lying-zip64", 0.7, lying_zip64),
    Family("archive/encrypted", 0.3, encrypted),
    Family("archive/method", 0.2, other_method),
    Family("archive/truncated", 1, shortened),
    Family("archive/bit-flips", 1.5, bit_flips),
    Family("archive/tar-headers", 1.2, tar_headers),
    Family("archive/pax", 0.8, pax),
    Family("archive/many-members", 0.2, many_members),
    Family("archive/comment", 0.2, comment),
    Family("archive/of-mutants", 0.8, of_mutants),
    Family("archive/none", 0.5, no_archive),
)
