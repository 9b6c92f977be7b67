"""Files by the SHA-256 of their content: in a directory, or in any store that fsspec knows (S3).

``sha256:<hex>`` lies under ``<hex[:2]>/<hex[2:4]>/<hex>``. A file appears whole or not at all, is never changed, and
is verified whenever it is fetched. Storing the same content again is harmless: it mends a damaged file and makes it new
to ``retention``, which deletes only what is old and unused.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from service.errors import BlobDamaged, BlobMissing, BlobsUnavailable

CHUNK = 1 << 20
SILENCE_S = 15.0
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def blob_path(digest: str) -> str:
    """Where a digest lies, relative to the root. Raises BlobMissing for what is no digest."""
    match = DIGEST.fullmatch(digest)
    if match is None:
        raise BlobMissing
    name = match[1]
    return f"{name[:2]}/{name[2:4]}/{name}"


def open_blobs(url: str, *, timeout_s: float = SILENCE_S, **options: Any) -> Blobs:
    """The blobs at a path, a ``file://`` URL or another URL of fsspec; ``options`` are those of its file system.

    An S3 that is silent for ``timeout_s`` is tried once more, then it is unavailable.
    """
    protocol, _, rest = url.rpartition("://")
    if protocol in ("", "file", "local"):
        return DirectoryBlobs(Path(rest))
    from service.store.remote import RemoteBlobs

    return RemoteBlobs(url, timeout_s=timeout_s, **options)


@dataclass(frozen=True)
class BlobInfo:
    """What is known of a blob without reading it; ``stored_at`` is when it was stored last."""

    digest: str
    size: int
    stored_at: datetime


class Blobs(ABC):
    """Content-addressed files; ``digest`` is ``sha256:<64 hex digits>``."""

    @abstractmethod
    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a copy of the file; (digest, size in bytes)."""

    @abstractmethod
    def put_bytes(self, data: bytes) -> tuple[str, int]:
        """Like ``put_file`` for a few bytes."""

    @abstractmethod
    def open(self, digest: str) -> BinaryIO:
        """A seekable reader. Does not verify. Raises BlobMissing."""

    @abstractmethod
    def stat(self, digest: str) -> BlobInfo:
        """Size and time. Raises BlobMissing."""

    @abstractmethod
    def delete(self, digest: str) -> None:
        """Delete the blob; no error if it is gone already."""

    @abstractmethod
    def list_(self) -> Iterator[BlobInfo]:
        """Every blob, in no order."""

    @abstractmethod
    def leftovers(self, before: datetime) -> list[str]:
        """Names of what was begun before that moment and never finished, because its process was killed."""

    @abstractmethod
    def remove_leftovers(self, before: datetime) -> int:
        """Delete the ``leftovers``; how many."""

    @abstractmethod
    def ping(self) -> None:
        """Ask the store something; a remote one has two seconds to answer. Raises BlobsUnavailable."""

    def local(self, digest: str) -> Path | None:  # noqa: ARG002
        """Where the blob lies on this machine, for reading; None: elsewhere, ``fetch`` it. Raises BlobMissing."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Give back every connection; a later call opens new ones."""

    def verify(self, digest: str) -> None:
        """Read all of the blob. Raises BlobMissing, BlobDamaged."""
        with self.open(digest) as source:
            _require(digest, _copy(source, _Nowhere())[0])

    def size(self, digest: str) -> int:
        """Bytes. Raises BlobMissing."""
        return self.stat(digest).size

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        try:
            self.stat(digest)
        except BlobMissing:
            return False
        return True

    def fetch(self, digest: str, dest: Path, *, durable: bool = False) -> Path:
        """Copy to ``dest``, whole and verified or not at all; ``durable``: also after the machine went down.

        Raises BlobMissing, BlobDamaged.
        """
        temporary = dest.with_name(f".{dest.name}.{secrets.token_hex(8)}")
        try:
            with self.open(digest) as source, temporary.open("xb") as target:
                _require(digest, _copy(source, target)[0])
                if durable:
                    target.flush()
                    os.fsync(target.fileno())
            temporary.replace(dest)
            if durable:
                _sync_directory(dest.parent)
            return dest
        finally:
            temporary.unlink(missing_ok=True)

    def open_verified(self, digest: str, scratch: Path) -> BinaryIO:
        """A seekable reader of bytes that were hashed before; a copy of them may lie in ``scratch`` meanwhile, unnamed.

        Raises BlobMissing, BlobDamaged.
        """
        copy = cast(BinaryIO, tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115 - the caller closes it
        try:
            with self.open(digest) as source:
                _require(digest, _copy(source, copy)[0])
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def read(self, digest: str) -> bytes:
        """All bytes, verified. Raises BlobMissing, BlobDamaged."""
        with self.open(digest) as source:
            data = source.read()
        _require(digest, "sha256:" + hashlib.sha256(data).hexdigest())
        return data


class DirectoryBlobs(Blobs):
    """Blobs in a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def put_file(self, path: Path) -> tuple[str, int]:
        with path.open("rb") as source:
            return self._put(source)

    def put_bytes(self, data: bytes) -> tuple[str, int]:
        return self._put(io.BytesIO(data))

    def open(self, digest: str) -> BinaryIO:
        try:
            return (self._root / blob_path(digest)).open("rb")
        except FileNotFoundError as error:
            raise BlobMissing from error

    def open_verified(self, digest: str, scratch: Path) -> BinaryIO:  # noqa: ARG002 - it is on a disk already
        source = self.open(digest)
        try:
            _require(digest, _copy(source, _Nowhere())[0])
            source.seek(0)
        except BaseException:
            source.close()
            raise
        return source

    def stat(self, digest: str) -> BlobInfo:
        try:
            status = (self._root / blob_path(digest)).stat()
        except FileNotFoundError as error:
            raise BlobMissing from error
        return BlobInfo(digest, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def local(self, digest: str) -> Path:
        self.stat(digest)
        return self._root / blob_path(digest)

    def delete(self, digest: str) -> None:
        (self._root / blob_path(digest)).unlink(missing_ok=True)

    def list_(self) -> Iterator[BlobInfo]:
        for path in self._root.glob("??/??/*"):
            with suppress(BlobMissing):
                yield self.stat(f"sha256:{path.name}")

    def leftovers(self, before: datetime) -> list[str]:
        found = []
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    found.append(path.name)
        return found

    def remove_leftovers(self, before: datetime) -> int:
        names = self.leftovers(before)
        for name in names:
            (self._incoming / name).unlink(missing_ok=True)
        return len(names)

    def ping(self) -> None:
        try:
            self._incoming.stat()
        except OSError as error:
            raise BlobsUnavailable from error

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _put(self, source: BinaryIO) -> tuple[str, int]:
        temporary = self._incoming / secrets.token_hex(16)
        try:
            with temporary.open("xb") as target:
                digest, size = _copy(source, target)
                target.flush()
                os.fsync(target.fileno())
            self._install(temporary, self._root / blob_path(digest))
        finally:
            temporary.unlink(missing_ok=True)
        return digest, size

    def _install(self, temporary: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(place)
        for directory in (place.parent, place.parent.parent, self._root):
            _sync_directory(directory)


class _Nowhere:
    """Where bytes go that are only looked at."""

    def write(self, data: bytes) -> int:
        return len(data)


class _Sink(Protocol):
    def write(self, data: bytes, /) -> Any: ...


def _copy(source: BinaryIO, target: _Sink) -> tuple[str, int]:
    """Copy and return (digest, size) of what went through."""
    hasher, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        hasher.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return "sha256:" + hasher.hexdigest(), size


def _require(wanted: str, found: str) -> None:
    if wanted != found:
        raise BlobDamaged


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
