"""Members of a zip, read in place.

The directory of a zip is a claim. Sizes in it are checked against the limits before a byte is inflated, reading
stops at the claimed size, and a member that then has another length or checksum is skipped. Only ``stored`` and
``deflate`` are read: the other decompressors of Python cannot be stopped inside a block.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.members import NOT_REGULAR, Member, Names, Wanted, clean, is_junk, is_wanted
from nidim.errors import DataError

CHUNK = 2**20
ENCRYPTED = 0x1 | 0x40 | 0x2000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RuntimeError,
)


class ZipSource:
    """The regular files of a zip."""

    def __init__(self, path: Path, limits: ImageLimits) -> None:
        self._limits = limits
        self._zip = open_zip(path, limits)
        self.total: int | None = len(self._zip.infolist())

    def read(self, wanted: Wanted = None) -> Iterator[Member]:
        names = Names()
        for ordinal, info in enumerate(self._zip.infolist()):
            name = clean(info.filename)
            if name.endswith("/") or is_junk(name) or not is_wanted(wanted, ordinal):
                continue
            data, problem = self._read(info, names.problem(name))
            yield Member(ordinal, name, data, problem)

    def _read(self, info: zipfile.ZipInfo, problem: str | None) -> tuple[bytes | None, str | None]:
        problem = problem or self._problem(info)
        if problem:
            return None, problem
        try:
            return read_member(self._zip, info), None
        except DAMAGED:
            return None, "damaged inside the zip: size or checksum does not agree"

    def _problem(self, info: zipfile.ZipInfo) -> str | None:
        if not _is_regular(info):
            return NOT_REGULAR
        if info.compress_type not in METHODS:
            return "compressed with a method that is not read here; use deflate"
        if info.file_size > self._limits.max_member_bytes:
            return f"over the limit of {self._limits.max_member_bytes} bytes a file"
        if self._limits.inflates(info.file_size, info.compress_size):
            return "inflates like a decompression bomb"
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()


def open_zip(path: Path, limits: ImageLimits) -> zipfile.ZipFile:
    """A zip whose directory is within the limits and that needs no password."""
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGED, NotImplementedError) as exc:
        raise DataError("The zip is damaged or incomplete; send it again.") from exc
    try:
        _check(archive, path.stat().st_size, limits)
    except DataError:
        archive.close()
        raise
    return archive


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, read in pieces so that a lying size cannot inflate without bound."""
    pieces, left = [], info.file_size
    with archive.open(info) as stream:
        while left and (piece := stream.read(min(CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
        if left or stream.read(1):
            raise zipfile.BadZipFile("another length than the directory says")
    return b"".join(pieces)


def _check(archive: zipfile.ZipFile, size: int, limits: ImageLimits) -> None:
    infos = archive.infolist()
    if len(infos) > limits.max_members:
        raise OverLimit(f"The zip has {len(infos)} entries; the limit is {limits.max_members}.")
    if any(info.flag_bits & ENCRYPTED for info in infos):
        raise DataError("The zip is encrypted; send one without a password.")
    total = sum(info.file_size for info in infos)
    if total > limits.max_bytes:
        raise OverLimit(f"The zip unpacks to {total} bytes; the limit is {limits.max_bytes}.")
    if limits.inflates(total, size):
        raise OverLimit(
            f"The zip unpacks to {total // max(size, 1)} times its size, like a decompression bomb."
        )


def _is_regular(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFREG)
