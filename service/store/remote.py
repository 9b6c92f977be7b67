"""Blobs behind fsspec: S3, and whatever else it knows. Every wait has a bound."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from service.errors import BlobMissing, BlobsUnavailable, ServiceError
from service.store.blobs import DIGEST, BlobInfo, Blobs, blob_path

PING_S = 2.0
CONNECT_S = 5.0
ATTEMPTS = 5
"""Of a request that is answered with an error of the server's; silence is waited for twice."""
SLOWEST_BYTES_PER_S = 1 << 16
"""What is slower counts as silent."""
WINDOW = 8 << 20
"""Bytes that are read at a time."""


class RemoteBlobs(Blobs):
    """Blobs behind fsspec, through a file system of our own: one from its cache would outlive us, and its credentials
    and address are those of whoever asked first. After a fork it is made anew: connections cannot be shared."""

    def __init__(self, url: str, *, timeout_s: float, **options: Any) -> None:
        self._protocol, _, root = url.partition("://")
        self._root = root.rstrip("/")
        self._timeout_s = timeout_s
        self._options = options
        self._opened: tuple[int, Any] | None = None

    def close(self) -> None:
        self._opened = None  # the file system ends its connections when nobody holds it any more

    def put_file(self, path: Path) -> tuple[str, int]:
        digest, size = _digest_of(path)
        with _translated(missing=BlobsUnavailable):
            self._fs().put_file(str(path), self._place(digest), **self._within(size))
        return digest, size

    def put_bytes(self, data: bytes) -> tuple[str, int]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with _translated(missing=BlobsUnavailable):
            self._fs().pipe_file(self._place(digest), data, **self._within(len(data)))
        return digest, len(data)

    @contextmanager
    def _looked(self) -> Iterator[None]:
        """Within, what is not found is missing, unless the whole bucket is: that is an unavailable store."""
        try:
            with _translated():
                yield
        except BlobMissing:
            self._require_root(self._within(0))
            raise

    def open(self, digest: str) -> BinaryIO:
        with self._looked():
            size = int(self._fs().info(self._place(digest), **self._within(0))["size"])
        return cast(BinaryIO, io.BufferedReader(_Reader(self, self._place(digest), size), WINDOW))

    def range_of(self, place: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the file there."""
        with self._looked():
            within = self._within(stop - start)
            data: bytes = self._fs().cat_file(place, start=start, end=stop, **within)
        return data

    def fetch(self, digest: str, dest: Path, *, durable: bool = False) -> Path:
        with self._looked():
            return super().fetch(digest, dest, durable=durable)

    def open_verified(self, digest: str, scratch: Path) -> BinaryIO:
        with self._looked():
            return super().open_verified(digest, scratch)

    def read(self, digest: str) -> bytes:
        with self._looked():
            return super().read(digest)

    def stat(self, digest: str) -> BlobInfo:
        with self._looked():
            return _info(digest, self._fs().info(self._place(digest), **self._within(0)))

    def delete(self, digest: str) -> None:
        with suppress(BlobMissing), self._looked():
            self._fs().rm_file(self._place(digest), **self._within(0))

    def list_(self) -> Iterator[BlobInfo]:
        with self._looked():
            found = self._fs().find(self._root, detail=True)
        for path, info in found.items():
            digest = f"sha256:{path.rpartition('/')[2]}"
            if DIGEST.fullmatch(digest):
                yield _info(digest, info)

    def verify(self, digest: str) -> None:
        with self._looked():
            super().verify(digest)

    def ping(self) -> None:
        self._require_root({"timeout": PING_S})

    def _require_root(self, within: dict[str, float]) -> None:
        """Raises BlobsUnavailable unless the bucket answers in time."""
        with _translated(missing=BlobsUnavailable):
            fs = self._fs()
            if _is_s3(fs):
                fs.call_s3("head_bucket", Bucket=self._bucket, **within)
            else:
                fs.exists(self._root)

    def leftovers(self, before: datetime) -> list[str]:
        with _translated(missing=BlobsUnavailable):
            return [upload["Key"] for upload in self._unfinished(before)]

    def remove_leftovers(self, before: datetime) -> int:
        with _translated(missing=BlobsUnavailable):
            uploads = self._unfinished(before)
            for upload in uploads:
                self._fs().abort_mpu(self._bucket, upload["Key"], upload["UploadId"])
        return len(uploads)

    def _unfinished(self, before: datetime) -> list[dict[str, Any]]:
        """Uploads in parts below our prefix, where the store has such a thing: they are not visible but paid for."""
        fs, prefix = self._fs(), self._root.partition("/")[2]
        if not hasattr(fs, "list_multipart_uploads"):
            return []
        uploads: list[dict[str, Any]] = fs.list_multipart_uploads(self._bucket)
        return [
            upload for upload in uploads if upload["Key"].startswith(prefix) and upload["Initiated"] < before
        ]

    @property
    def _bucket(self) -> str:
        return self._root.partition("/")[0]

    def _fs(self) -> Any:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            self._opened = opened = (os.getpid(), self._made())
        return opened[1]

    def _made(self) -> Any:
        """A file system with a bound on every wait: by itself it would try a silent S3 for minutes."""
        own: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if self._protocol == "s3":
            own["config_kwargs"] = {
                "connect_timeout": min(CONNECT_S, self._timeout_s),
                "read_timeout": self._timeout_s,
                "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
            }
        fs = fsspec.filesystem(self._protocol, **own, **self._options)
        if _is_s3(fs):
            fs.retries = 1  # on top of botocore's
        return fs

    def _within(self, size: int) -> dict[str, float]:
        """The bound on a request that carries ``size`` bytes; nothing else notices a store that stops reading."""
        if not _is_s3(self._fs()):
            return {}
        return {"timeout": 2 * self._timeout_s + size / SLOWEST_BYTES_PER_S}

    def _place(self, digest: str) -> str:
        return f"{self._root}/{blob_path(digest)}"


class _Reader(io.RawIOBase):
    """A file of ``size`` bytes, read by ranges; errors are ours."""

    def __init__(self, blobs: RemoteBlobs, place: str, size: int) -> None:
        self._blobs, self._place, self._size, self._at = blobs, place, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readall(self) -> bytes:
        """The rest in windows; RawIOBase would ask for eight kilobytes at a time."""
        pieces = []
        while self._at < self._size:
            stop = min(self._at + WINDOW, self._size)
            pieces.append(self._blobs.range_of(self._place, self._at, stop))
            self._at = stop
        return b"".join(pieces)

    def readinto(self, buffer: Any, /) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        data = self._blobs.range_of(self._place, self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at


def _is_s3(fs: Any) -> bool:
    return hasattr(fs, "call_s3")


@contextmanager
def _translated(missing: type[ServiceError] = BlobMissing) -> Iterator[None]:
    """Errors of whatever library is behind fsspec, as ours; those of this machine's files stay as they are."""
    try:
        yield
    except FileNotFoundError as error:
        raise missing from error
    except ServiceError:
        raise
    except OSError as error:
        if isinstance(error, TimeoutError) or _is_answer(error.__cause__):
            raise BlobsUnavailable from error
        raise
    except Exception as error:
        raise BlobsUnavailable from error


def _is_answer(cause: BaseException | None) -> bool:
    """Whether an OSError is how fsspec spells a refusal of S3."""
    return type(cause).__module__.startswith("botocore.")


def _info(digest: str, info: dict[str, Any]) -> BlobInfo:
    """fsspec's answer; the time is S3's, or that of its memory file system."""
    return BlobInfo(digest, int(info["size"]), info.get("LastModified") or info["created"])


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as source:
        return "sha256:" + hashlib.file_digest(source, "sha256").hexdigest(), path.stat().st_size
