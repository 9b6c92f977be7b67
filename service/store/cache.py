"""The cache of a machine: fetched datasets and the arrays made of them, bounded by bytes, the least recently used go.

    cache/datasets/<hex>              a copy of a blob
    cache/arrays/<fingerprint>-<shape>/   .npy files that trainings map

Who uses an entry holds a shared lock on it and sets its time. Only what nobody holds and nobody has used for some
minutes is taken away: it could be on its way to a training that has not opened it yet.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

YOUNG_S = 600.0
STALE_S = 6 * 3600.0
"""What was begun and not written to for so long was left by a process that died."""
ROOMS = ("datasets", "arrays")
EVICTED = ".evicted-"


@dataclass(frozen=True)
class Entry:
    """A file or folder of the cache; ``used_at`` is when somebody took it last."""

    path: Path
    size: int
    used_at: float


def entries(root: Path) -> list[Entry]:
    """What the cache holds, the least recently used first."""
    found = [entry for path in _children(root) if (entry := _entry(path)) and not path.name.startswith(".")]
    return sorted(found, key=lambda entry: entry.used_at)


def evict(root: Path, max_bytes: int, *, young_s: float = YOUNG_S) -> int:
    """Take entries away until the rest fits into ``max_bytes`` (0: no bound); how many bytes went."""
    remove_unfinished(root)
    if not max_bytes:
        return 0
    found = entries(root)
    total, gone = sum(entry.size for entry in found), 0
    for entry in found:
        if total - gone <= max_bytes:
            break
        if time.time() - entry.used_at >= young_s and _take(entry.path):
            gone += entry.size
    return gone


def unfinished(root: Path, *, stale_s: float = STALE_S) -> list[Path]:
    """What was begun or half deleted by processes that died."""
    hidden = [path for path in _children(root) if path.name.startswith(".")]
    return [path for path in hidden if path.name.startswith(EVICTED) or _silent_s(path) > stale_s]


def remove_unfinished(root: Path) -> int:
    """Delete the ``unfinished``; how many."""
    found = unfinished(root)
    for path in found:
        _delete(path)
    return len(found)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())


def _children(root: Path) -> Iterator[Path]:
    for room in ROOMS:
        with suppress(FileNotFoundError):
            yield from sorted((root / room).iterdir())


def _entry(path: Path) -> Entry | None:
    """None: it went while we looked."""
    try:
        return Entry(path, size_of(path), path.stat().st_mtime)
    except FileNotFoundError:
        return None


def _silent_s(path: Path) -> float:
    newest = 0.0
    for child in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            newest = max(newest, child.stat().st_mtime)
    return time.time() - newest


def _take(path: Path) -> bool:
    """Delete the entry unless somebody holds it. It loses its name first, so that nobody sees half of it."""
    try:
        with _alone(path):
            hidden = path.with_name(f"{EVICTED}{secrets.token_hex(8)}")
            path.rename(hidden)
    except (BlockingIOError, FileNotFoundError):
        return False
    _delete(hidden)
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """An exclusive lock. Raises BlockingIOError while somebody holds a shared one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
