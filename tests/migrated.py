"""An SQLite database with all tables, migrated once in a process and copied for every test that begins with none."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

from service.store import open_store

NAME = "nidim.db"


def lay(directory: Path) -> None:
    """Put it into a directory that holds no store yet: what opens one there has nothing to migrate."""
    if not (directory / NAME).exists() and not (directory / "blobs").exists():
        (directory / NAME).write_bytes(_database())


@functools.cache
def _database() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        open_store(SimpleNamespace(data_dir=Path(scratch), database_url="", blob_url="")).close()
        return (Path(scratch) / NAME).read_bytes()
