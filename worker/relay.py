"""Relay: the child's JSON lines become rows, every write under the lease's fence.

progress, metric, log, warning      event table, in small batches
record {level, logger, message}     the runner's own log, with the ids of the job
phase {name}                        the trace
resolved                            the job's row, once
checkpoint {path, step}             a blob, then the job's row; the blob before it is deleted
done, stopped, failed               kept for the runner to end the job
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service.errors import QuotaExceeded, StoreBusy
from service.store import Store, jobs, quota, retention
from service.store.jobs import Lease
from service.tracing import Phases, Tracer
from worker.classify import Verdict, public

log = logging.getLogger(__name__)
child_log = logging.getLogger("worker.child")

LONGEST_NAME, LONGEST_RECORD = 40, 8000
FLUSH_EVERY_S = 0.05
"""A reader of the stream hears of an event within a tenth of a second, this and the server's look for news included."""
MOST_WAITING = 5000
"""Events kept while the database does not answer; then the oldest go."""
JUST_STORED = timedelta(seconds=10)
"""Another job with the same seed may have stored the same checkpoint and not have written its row yet."""
EVENTS = frozenset({"progress", "metric", "log", "warning"})
DATABASE_DOWN = (OperationalError, InterfaceError, StoreBusy)


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

    def __init__(
        self,
        store: Store,
        settings: quota.QuotaSettings,
        lease: Lease,
        scratch: Path,
        phases: Phases | None = None,
    ) -> None:
        self.outputs: Outputs | None = None
        self.failed: Verdict | None = None
        self.stopped = False
        self.advanced = False
        self._store, self._settings, self._lease, self._scratch = store, settings, lease, scratch.resolve()
        self._step = lease.job.checkpoint_step
        self._told = ""
        self._phases = phases or Phases(Tracer())
        self._resolved: dict[str, Any] | None = None
        self._replaced: list[tuple[float, str]] = []
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._flush_at = 0.0

    def see(self, line: bytes | None) -> None:
        """One line, or None when only time has passed."""
        if line is not None and line.strip():
            self._handle(line)
        if (self._waiting or self._resolved) and time.monotonic() >= self._flush_at:
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
        elif kind == "record":
            _log(data)
        elif kind == "phase":
            self._phases.enter(str(data["name"])[:LONGEST_NAME])
        elif kind == "resolved":
            self._resolved = data
            self.flush()
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
        if not batch and self._resolved is None:
            return
        try:
            with self._store.begin() as tx:
                self._write_resolved(tx)
                jobs.add_events(tx, self._lease, batch)
        except DATABASE_DOWN as error:
            log.warning("job %s: events wait, the database does not answer: %s", self._lease.job_id, error)
            return
        self._resolved = None
        del self._waiting[: len(batch)]

    def _write_resolved(self, tx: Session) -> None:
        """In the row before any checkpoint is: a resumed training needs the choices that its first attempt made."""
        if self._resolved is not None:
            jobs.set_resolved(tx, self._lease, self._resolved)

    def _keep_checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint that cannot be stored is no reason to end the training; the next one may fit."""
        try:
            self._store_checkpoint(path, step)
            self.advanced = self.advanced or self._step is None or step > self._step
            self._step = step
            self._told = ""
        except QuotaExceeded as error:
            self._tell(f"A checkpoint was not stored, the training goes on: {error}")
        except (OSError, *DATABASE_DOWN) as error:
            log.warning("job %s: a checkpoint is not stored: %s", self._lease.job_id, error)
            full = "the disk is full" if quota.is_full(error) else "the store did not take it"
            self._tell(f"A checkpoint was not stored, the training goes on: {full}.")
        finally:
            path.unlink(missing_ok=True)

    def _store_checkpoint(self, path: Path, step: int) -> None:
        """In the place of the one before. Raises QuotaExceeded, OSError and what the database raises."""
        size = path.stat().st_size
        quota.check_disk(self._settings, size)
        with self._store.begin() as tx:
            quota.check(tx, self._settings, size - jobs.checkpoint_bytes(tx, self._lease.job_id))
        digest, size = self._store.blobs.put_file(path)
        with self._store.begin() as tx:
            self._write_resolved(tx)
            before = jobs.add_checkpoint(tx, self._lease, digest, step, size)
        if before is not None and before != digest:
            self._replaced.append((time.monotonic(), before))
        self._discard_replaced()

    def _discard_replaced(self) -> None:
        """Those before it, once they are old enough; with quick checkpoints they would fill the disk otherwise."""
        old = time.monotonic() - 2 * JUST_STORED.total_seconds()
        going = [digest for since, digest in self._replaced if since < old]
        del self._replaced[: len(going)]
        retention.discard(self._store, going, grace=JUST_STORED)

    def _tell(self, detail: str) -> None:
        """A warning to the client, once until a checkpoint is stored again."""
        if not self._told:
            self.add("warning", {"code": "checkpoint_not_stored", "detail": detail})
        self._told = detail


def _log(data: dict[str, Any]) -> None:
    """A line of the child's log, as if it were ours: the formatter, the level and the bound fields are the runner's."""
    level = logging.getLevelNamesMapping().get(str(data["level"]), logging.INFO)
    fields = {"part": "child", "pid": int(data["pid"]), "logger": str(data["logger"])[:LONGEST_NAME]}
    child_log.log(level, "%s", str(data["message"])[:LONGEST_RECORD], extra={"fields": fields})
