"""Retention: what ended long ago is forgotten, and blobs that nothing refers to are deleted.

A blob is written before the row that refers to it, and a worker that lost its lease leaves blobs without a row. So the
sweep takes a blob only when it is unused *and* was stored more than a day ago. Where the row that referred to it has
just been deleted, minutes are enough. Nothing goes while a backup holds the blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Protocol

from sqlalchemy import ColumnElement, and_, delete, exists, select, update
from sqlalchemy.orm import Session

from service.store import audit, cache, datasets, events, idempotency, references, scratch, singletons
from service.store.audit import By
from service.store.blobs import Blobs
from service.store.clock import now
from service.store.ids import new_id
from service.store.jobs.values import TERMINAL
from service.store.store import Store
from service.store.tables import EventRow, JobRow

DAY_S = 86_400.0
TIDY_EVERY_S = 600.0
SWEEP_EVERY_S = 3600.0
GRACE = timedelta(days=1)
YOUNG = timedelta(minutes=10)
"""Somebody may have stored the same content and not have written the row yet."""
UNFINISHED = timedelta(hours=1)
"""What was begun and not written to for so long was left by a process that died."""
HOLD = "blobs"
"""While somebody has this singleton no blob is deleted."""
INGESTION_SILENT_S = 900.0
BATCH = 500
BY = By(audit.RETENTION)


class RetentionSettings(Protocol):
    """The settings that retention needs, in days; 0 for jobs and the audit log: for ever."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def cache_max_bytes(self) -> int: ...
    @property
    def retain_checkpoints_days(self) -> float: ...
    @property
    def retain_events_days(self) -> float: ...
    @property
    def retain_jobs_days(self) -> float: ...
    @property
    def retain_audit_days(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """How much was forgotten."""

    checkpoints: int = 0
    events: int = 0
    jobs: int = 0
    audit: int = 0
    blobs: int = 0
    cache_bytes: int = 0


def tidy_if_due(store: Store, settings: RetentionSettings) -> Tidied:
    """Tidy up, unless some process did so within the last minutes."""
    if not _is_due(store, "tidy", TIDY_EVERY_S):
        return Tidied()
    with store.begin() as tx:
        idempotency.prune(tx)
        dead = datasets.fail_silent(tx, silent_s=INGESTION_SILENT_S)
        audit.record_all(tx, BY, "dataset.fail", dead, because=datasets.SILENT)
        checkpoints = forget_checkpoints(tx, older_than_s=settings.retain_checkpoints_days * DAY_S)
        jobs = forget_jobs(tx, older_than_s=settings.retain_jobs_days * DAY_S)
        entries = audit.forget(tx, older_than_s=settings.retain_audit_days * DAY_S)
        _note(tx, "checkpoints", checkpoints)
    forgotten = _forget_all_events(store, older_than_s=settings.retain_events_days * DAY_S)
    swept = _noted_sweep(store) if _is_due(store, "sweep", SWEEP_EVERY_S) else 0
    evicted = cache.evict(settings.data_dir / "cache", settings.cache_max_bytes)
    scratch.remove_stale(store, settings.data_dir / "scratch")
    return Tidied(
        checkpoints=checkpoints,
        events=forgotten,
        jobs=jobs,
        audit=entries,
        blobs=swept,
        cache_bytes=evicted,
    )


def forget_checkpoints(tx: Session, *, older_than_s: float) -> int:
    """Take the checkpoints of jobs that ended so long ago; ``sweep`` deletes the blobs."""
    statement = (
        update(JobRow)
        .where(_ended_before(older_than_s), JobRow.checkpoint_digest.is_not(None))
        .values(checkpoint_digest=None, checkpoint_step=None, checkpoint_bytes=None)
        .returning(JobRow.id)
    )
    return len(tx.execute(statement, execution_options={"synchronize_session": False}).all())


def forget_events(tx: Session, *, older_than_s: float, most_jobs: int = BATCH) -> int:
    """Delete the events of some jobs that ended so long ago, but for states: a stream must still find its end."""
    has_events = exists().where(EventRow.job_id == JobRow.id, EventRow.type != events.STATE)
    old = tx.scalars(select(JobRow.id).where(_ended_before(older_than_s), has_events).limit(most_jobs)).all()
    statement = delete(EventRow).where(EventRow.type != events.STATE, EventRow.job_id.in_(old))
    result = tx.execute(statement.returning(EventRow.id), execution_options={"synchronize_session": False})
    return len(result.all())


def _forget_all_events(store: Store, *, older_than_s: float) -> int:
    """A few jobs a transaction: nobody waits long for the database meanwhile."""
    total = 0
    while True:
        with store.begin() as tx:
            count = forget_events(tx, older_than_s=older_than_s)
            _note(tx, "events", count)
        if count == 0:
            return total
        total += count


def forget_jobs(tx: Session, *, older_than_s: float) -> int:
    """Delete jobs that ended so long ago, with their events; 0 keeps all. Encoders stay."""
    if older_than_s <= 0:
        return 0
    statement = delete(JobRow).where(_ended_before(older_than_s)).returning(JobRow.id)
    gone = tx.scalars(statement, execution_options={"synchronize_session": False}).all()
    audit.record_all(tx, BY, "job.delete", gone)
    return len(gone)


def _noted_sweep(store: Store) -> int:
    """Files have no transaction: the entry says what has gone already."""
    count = sweep(store)
    if count:
        with store.begin() as tx:
            _note(tx, "blobs", count)
    return count


def _note(tx: Session, what: str, count: int) -> None:
    """Not for the audit log itself: the entry would be forgotten in its turn, and leave another, for ever."""
    if count:
        audit.record(tx, BY, "retention.forget", what, count=count)


def sweep(store: Store, *, grace: timedelta = GRACE) -> int:
    """Delete every blob that was stored longer ago than ``grace`` and that nothing refers to; how many."""
    moment = store.clock()
    store.blobs.remove_leftovers(moment - UNFINISHED)
    before = moment - grace
    old = (blob.digest for blob in store.blobs.list_() if blob.stored_at < before)
    return sum(discard(store, digests, grace=grace) for digests in _batches(old))


def discard(store: Store, digests: Iterable[str | None], *, grace: timedelta = YOUNG) -> int:
    """Delete those of the blobs that nothing refers to and that are older than ``grace``; how many.

    None while a backup holds the blobs; the sweep finds them later. Each is looked at again before it goes: in the time
    that a store elsewhere takes for the others somebody may store the same content once more.
    """
    before, gone = store.clock() - grace, 0
    for digest in _unused(store, [digest for digest in digests if digest]):
        if _unused(store, [digest]) and _is_old(store.blobs, digest, before):
            store.blobs.delete(digest)
            gone += 1
    return gone


def _unused(store: Store, digests: list[str]) -> list[str]:
    """Those that nothing refers to; none while a backup holds the blobs."""
    with store.session() as tx:
        return [] if singletons.is_held(tx, HOLD) else references.unused(tx, digests)


def _is_due(store: Store, name: str, every_s: float) -> bool:
    """Whether nobody did it lately: a lease by an owner of its own, never given back, is a clock that all share."""
    with store.begin() as tx:
        return singletons.try_hold(tx, name, new_id("once_"), every_s)


def _ended_before(older_than_s: float) -> ColumnElement[bool]:
    return and_(JobRow.state.in_(sorted(TERMINAL)), JobRow.finished_at < now(-older_than_s))


def _is_old(blobs: Blobs, digest: str, before: datetime) -> bool:
    return blobs.exists(digest) and blobs.stat(digest).stored_at < before


def _batches(digests: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(digests, BATCH)):
        yield batch
