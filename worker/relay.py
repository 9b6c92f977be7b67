"""Relay: the child's JSON lines become rows, every write under the lease's fence.

progress, metric, log, warning      event table, in small batches
resolved                            the job's row, once
checkpoint {path, step}             a blob, then the job's row; the blob before it is deleted
done, stopped, failed               kept for the runner to end the job
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.store import Store, jobs
from service.store.jobs import Lease
from worker.classify import Verdict, public

log = logging.getLogger(__name__)

FLUSH_EVERY_S = 0.5
MOST_WAITING = 5000
"""Events kept while the database does not answer; then the oldest go."""
EVENTS = frozenset({"progress", "metric", "log", "warning"})
DATABASE_DOWN = (OperationalError, InterfaceError, PoolTimeout)


@dataclass(frozen=True)
class Outputs:
    """What a finished training left: the bundle's directory and what the database has to know of it."""

    directory: Path
    manifest: dict[str, Any]
    report: dict[str, Any]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    dim: int
    prior: dict[str, Any]


class Relay:
    """Reads one child's lines. Raises LostLease as soon as the database refuses a write for it."""

    def __init__(self, store: Store, lease: Lease, scratch: Path) -> None:
        self.outputs: Outputs | None = None
        self.failed: Verdict | None = None
        self.stopped = False
        self.checkpoints = 0
        self._store, self._lease, self._scratch = store, lease, scratch.resolve()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._flush_at = 0.0

    def see(self, line: bytes | None) -> None:
        """One line, or None when only time has passed."""
        if line is not None and line.strip():
            self._handle(line)
        if self._waiting and time.monotonic() >= self._flush_at:
            self.flush()

    def _handle(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            kind, data = message["type"], message["data"]
            self._act(kind, data)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("job %s: a line of the child is not understood: %s", self._lease.job_id, error)

    def _act(self, kind: str, data: dict[str, Any]) -> None:
        if kind in EVENTS:
            self.add(kind, data)
        elif kind == "resolved":
            with self._store.begin() as tx:
                jobs.set_resolved(tx, self._lease, data)
        elif kind == "checkpoint":
            self._keep_checkpoint(self._inside(data["path"]), int(data["step"]))
        elif kind == "done":
            directory = self._inside(data["directory"])
            self.outputs = Outputs(**{**data, "directory": directory})
        elif kind == "stopped":
            self.stopped = True
        elif kind == "failed":
            self.failed = Verdict(
                retry=bool(data["retry"]), code=data["code"], message=public(data["message"])
            )
        else:
            raise ValueError(f"unknown type {kind!r}")

    def _inside(self, path: str) -> Path:
        resolved = Path(path).resolve()
        if not resolved.is_relative_to(self._scratch):
            raise ValueError("a path outside the scratch directory")
        return resolved

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """An event to be written with the next batch."""
        self._waiting.append((kind, data))
        del self._waiting[:-MOST_WAITING]

    def flush(self) -> None:
        """Write what waits; if the database does not answer, keep it for later."""
        self._flush_at = time.monotonic() + FLUSH_EVERY_S
        batch = list(self._waiting)
        if not batch:
            return
        try:
            with self._store.begin() as tx:
                jobs.add_events(tx, self._lease, batch)
        except DATABASE_DOWN as error:
            log.warning("job %s: events wait, the database does not answer: %s", self._lease.job_id, error)
            return
        del self._waiting[: len(batch)]

    def _keep_checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint that cannot be stored is no reason to end the training; the next one may fit."""
        try:
            digest, _ = self._store.blobs.put_file(path)
            with self._store.begin() as tx:
                before = jobs.add_checkpoint(tx, self._lease, digest, step)
            self.checkpoints += 1
            if before is not None and before != digest:
                self._store.blobs.delete(before)
        except (OSError, *DATABASE_DOWN) as error:
            log.warning("job %s: a checkpoint is not stored: %s", self._lease.job_id, error)
            self.add(
                "warning", {"code": "checkpoint_not_stored", "detail": "A checkpoint could not be stored."}
            )
        finally:
            path.unlink(missing_ok=True)
