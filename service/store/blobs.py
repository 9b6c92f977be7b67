"""Files by the SHA-256 of their content, in a directory or in any store that fsspec knows (S3)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol


class Blobs(Protocol):
    """Content-addressed files; ``digest`` is ``sha256:<64 hex digits>``."""

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a copy of the file; (digest, size in bytes). Whole or not at all; storing again is harmless."""

    def put_bytes(self, data: bytes) -> tuple[str, int]:
        """Like ``put_file`` for a few bytes."""

    def open(self, digest: str) -> BinaryIO:
        """A seekable reader. Does not verify. Raises BlobMissing."""

    def fetch(self, digest: str, dest: Path) -> Path:
        """Copy to ``dest``, whole and verified or not at all. Raises BlobMissing, BlobDamaged."""

    def read(self, digest: str) -> bytes:
        """All bytes, verified. Raises BlobMissing, BlobDamaged."""

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""

    def size(self, digest: str) -> int:
        """Bytes. Raises BlobMissing."""

    def delete(self, digest: str) -> None:
        """Delete the blob; no error if it is gone already."""
