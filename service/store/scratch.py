"""What processes that were killed left in the scratch directory of a machine.

A folder ``job_…-<fence>`` belongs to an attempt, ``api-…`` to an API process that holds a lock on it as long as it
lives. It is stale when that attempt is over, or nobody holds the lock; anything else when nothing in it was written for
a day.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from service.store.tables import JobRow

if TYPE_CHECKING:
    from service.store.store import Store

DAY_S = 86_400.0
HOUR_S = 3600.0
OWNED, GONE = "api-", ".gone-"
_OF_ATTEMPT = re.compile(r"(job_[0-9a-z]+)-([0-9]{1,18})")


@contextmanager
def own(root: Path) -> Iterator[Path]:
    """A folder in ``root`` of this process; it goes at the end, or when somebody sees that the process is gone."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = None
    while lock is None:  # somebody may take it for left behind before it is locked
        path = root / f"{OWNED}{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        lock = _lock(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def stale(store: Store, root: Path, *, day_s: float = DAY_S, hour_s: float = HOUR_S) -> list[Path]:
    """Entries that nobody uses any more; those of attempts that are over, an hour after the last sign of life."""
    children = list(_children(root))
    left = [path for path in children if path.name.startswith(OWNED) and not _is_owned(path)]
    found = [(path, _silent_s(path)) for path in children if not path.name.startswith(OWNED)]
    over = [path for path, silent_s in found if silent_s > hour_s and _OF_ATTEMPT.fullmatch(path.name)]
    running = _running(store, over)
    old = [path for path, silent_s in found if silent_s > day_s and not _OF_ATTEMPT.fullmatch(path.name)]
    return [path for path in over if path.name not in running] + old + left


def remove_stale(store: Store, root: Path, *, day_s: float = DAY_S, hour_s: float = HOUR_S) -> int:
    """Delete the ``stale``; how many."""
    found = stale(store, root, day_s=day_s, hour_s=hour_s)
    for path in found:
        if path.name.startswith(OWNED):
            _remove_unowned(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of the folder; None: somebody else has it, or the folder is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_owned(path: Path) -> bool:
    lock = _lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None


def _remove_unowned(path: Path) -> None:
    """It loses its name under the lock, so that who has just made it makes another."""
    lock = _lock(path)
    if lock is None:
        return
    hidden = path.with_name(f"{GONE}{secrets.token_hex(8)}")
    path.rename(hidden)
    os.close(lock)
    shutil.rmtree(hidden, ignore_errors=True)


def _running(store: Store, paths: list[Path]) -> set[str]:
    """Names of those folders whose attempt still has its job."""
    ids = [path.name.rpartition("-")[0] for path in paths]
    query = select(JobRow.id, JobRow.fence).where(JobRow.id.in_(ids), JobRow.state == "running")
    with store.session() as tx:
        return {f"{job_id}-{fence}" for job_id, fence in tx.execute(query)}


def _children(root: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from sorted(root.iterdir())


def _silent_s(path: Path) -> float:
    newest = 0.0
    for child in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(OSError):
            newest = max(newest, child.lstat().st_mtime)
    return time.time() - newest
