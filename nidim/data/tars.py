"""Members of a tar or tar.gz, read in one pass from front to back.

``tarfile`` parses the headers; it sees the archive through :class:`Forward`, which only moves forward, counts what
comes out of gzip, and refuses the huge reads that a hostile extended header asks for. Links, devices, sparse files
and everything else that is not a plain file is skipped.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self, cast

from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.members import NOT_REGULAR, Member, Names, Wanted, clean, is_junk, is_wanted
from nidim.errors import DataError

CHUNK = 2**20
MAX_HEADER = 2**20
"""Bytes of one extended header (a long name)."""
DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, RecursionError)


class Forward(io.RawIOBase):
    """A stream that is read once, front to back, within the limits."""

    def __init__(self, stream: IO[bytes], *, size: int, limits: ImageLimits) -> None:
        self._stream, self._size, self._limits, self._at = stream, size, limits, 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.take(size)

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or what is left."""
        data = self._stream.read(size)
        self._at += len(data)
        if self._at > self._limits.max_bytes:
            raise OverLimit(f"The tar unpacks to more than the limit of {self._limits.max_bytes} bytes.")
        if self._limits.inflates(self._at, self._size):
            raise OverLimit("The tar unpacks to a huge multiple of its size, like a decompression bomb.")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence or offset < self._at:
            raise tarfile.StreamError("only forward")
        while self._at < offset and self.take(min(CHUNK, offset - self._at)):
            pass
        return self._at


class TarSource:
    """The regular files of a tar, plain or gzip."""

    total: int | None = None

    def __init__(self, path: Path, limits: ImageLimits) -> None:
        self._path, self._limits = path, limits
        self._stream = _open(path)

    def read(self, wanted: Wanted = None) -> Iterator[Member]:
        """Call it once: the stream does not go back."""
        try:
            yield from self._read(wanted)
        except DAMAGED as exc:
            raise DataError("The tar is damaged or ends early; send it again.") from exc

    def _read(self, wanted: Wanted) -> Iterator[Member]:
        forward = Forward(self._stream, size=self._path.stat().st_size, limits=self._limits)
        names = Names()
        with tarfile.open(fileobj=forward, mode="r:") as tar:
            for ordinal, info in enumerate(_headers(tar, self._limits.max_members)):
                name = clean(info.name)
                if not info.isdir() and not is_junk(name) and is_wanted(wanted, ordinal):
                    yield self._member(forward, ordinal, name, info, names)

    def _member(
        self, forward: Forward, ordinal: int, name: str, info: tarfile.TarInfo, names: Names
    ) -> Member:
        problem = names.problem(name) or self._problem(info)
        if problem:
            return Member(ordinal, name, None, problem)
        forward.seek(info.offset_data)
        data = forward.take(info.size)
        if len(data) < info.size:
            raise EOFError
        return Member(ordinal, name, data)

    def _problem(self, info: tarfile.TarInfo) -> str | None:
        if not info.isreg() or info.issparse():
            return NOT_REGULAR
        if info.size > self._limits.max_member_bytes:
            return f"over the limit of {self._limits.max_member_bytes} bytes a file"
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()


def _headers(tar: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    count = 0
    while (info := tar.next()) is not None:
        count += 1
        if count > most:
            raise OverLimit(f"The tar has more entries than the limit of {most}.")
        if info.size < 0:
            raise tarfile.ReadError("a negative size")
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
        yield info


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if is_gzip(path) else path.open("rb")


def is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def is_tar(path: Path) -> bool:
    """Whether the file, or what its gzip holds, begins with the header of a tar."""
    try:
        with _open(path) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except DAMAGED:
        return False
    return True
