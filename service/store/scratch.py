"""What processes that were killed left in the scratch directory of a machine.

A folder ``job_…-<fence>`` belongs to an attempt, everything else to a request. It is stale when that attempt is over,
or, for the rest, when nothing in it was written for a day.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from service.store.tables import JobRow

if TYPE_CHECKING:
    from service.store.store import Store

DAY_S = 86_400.0
HOUR_S = 3600.0
_OF_ATTEMPT = re.compile(r"(job_[0-9a-z]+)-([0-9]{1,18})")


def stale(store: Store, root: Path, *, day_s: float = DAY_S, hour_s: float = HOUR_S) -> list[Path]:
    """Entries that nobody uses any more; those of attempts that are over, an hour after the last sign of life."""
    found = [(path, _silent_s(path)) for path in _children(root)]
    over = [path for path, silent_s in found if silent_s > hour_s and _OF_ATTEMPT.fullmatch(path.name)]
    running = _running(store, over)
    old = [path for path, silent_s in found if silent_s > day_s and not _OF_ATTEMPT.fullmatch(path.name)]
    return [path for path in over if path.name not in running] + old


def remove_stale(store: Store, root: Path, *, day_s: float = DAY_S, hour_s: float = HOUR_S) -> int:
    """Delete the ``stale``; how many."""
    found = stale(store, root, day_s=day_s, hour_s=hour_s)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)


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
