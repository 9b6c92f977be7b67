"""A folder or an uncompressed .tar (weights and images do not shrink) of named files, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

TAR = ".tar"
Progress = Callable[[int, int], None]
"""(blobs copied, blobs in all)"""


def untold(_done: int, _of: int) -> None:
    """Nobody wants to know the progress."""


class Writer(ABC):
    """Takes files over; ``room`` is a directory of its own on the target's file system."""

    def __init__(self, room: Path) -> None:
        self.room = room

    @abstractmethod
    def add(self, name: str, file: Path) -> None:
        """Move ``file``, which lies in ``room``, into the container."""

    @abstractmethod
    def finish(self) -> Path:
        """Onto the disk; what then takes the target's name."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what is open, finished or not."""


class Reader(ABC):
    """Reads files by their names; nothing else in the container is looked at."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """The file. Raises FileNotFoundError."""


@contextmanager
def writing(target: Path) -> Iterator[Writer]:
    """A writer for ``target``, which appears at the end, whole. Raises FileExistsError."""
    if target.exists():
        raise FileExistsError(f"{target} is there already; give the backup another name.")
    room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        writer: Writer = TarWriter(room) if target.suffix == TAR else FolderWriter(room)
        with closing(writer):
            yield writer
            writer.finish().rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def reading(source: Path) -> Iterator[Reader]:
    """A reader of ``source``. Raises OSError, tarfile.TarError."""
    if source.is_dir():
        yield FolderReader(source)
        return
    with tarfile.open(source, "r:") as tar:
        yield TarReader(tar)


class FolderWriter(Writer):
    """Files in folders."""

    def __init__(self, room: Path) -> None:
        super().__init__(room)
        self._content = room / "content"
        self._content.mkdir(mode=0o700)
        self._folders = {self._content}

    def add(self, name: str, file: Path) -> None:
        place = self._content / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(file)
        file.replace(place)
        self._folders.update(folder for folder in place.parents if folder.is_relative_to(self._content))

    def finish(self) -> Path:
        for folder in self._folders:
            _sync(folder)
        return self._content


class TarWriter(Writer):
    """Files in one .tar that only its owner can read."""

    def __init__(self, room: Path) -> None:
        super().__init__(room)
        self._path = room / secrets.token_hex(8)
        self._path.touch(mode=0o600)
        self._file = self._path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, name: str, file: Path) -> None:
        entry = tarfile.TarInfo(name)
        status = file.stat()
        entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o600
        with file.open("rb") as source:
            self._tar.addfile(entry, source)
        file.unlink()

    def finish(self) -> Path:
        self._tar.close()
        self._file.close()
        _sync(self._path)
        return self._path

    def close(self) -> None:
        self._file.close()


class FolderReader(Reader):
    """Files in folders."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")


class TarReader(Reader):
    """Members are read in place: nothing is extracted to a path of the archive's choosing."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name: member for member in tar.getmembers() if member.isreg()}

    def open(self, name: str) -> BinaryIO:
        member = self._members.get(name)
        stream = None if member is None else self._tar.extractfile(member)
        if stream is None:
            raise FileNotFoundError(name)
        return cast(BinaryIO, stream)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
