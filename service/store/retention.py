"""Retention: what ended long ago is forgotten, and blobs that nothing refers to are deleted.

A blob is written before the row that refers to it, and a worker that lost its lease leaves blobs without a row. So a
blob goes only when it is unused *and* was stored more than a day ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from sqlalchemy import ColumnElement, and_, delete, exists, update
from sqlalchemy.orm import Session

from service.store import datasets, events, idempotency, references, singletons
from service.store.blobs import Blobs
from service.store.clock import now
from service.store.ids import new_id
from service.store.jobs.values import TERMINAL
from service.store.store import Store
from service.store.tables import EventRow, JobRow

DAY_S = 86_400.0
TIDY_EVERY_S = 600.0
SWEEP_EVERY_S = DAY_S
GRACE = timedelta(days=1)
INGESTION_SILENT_S = 900.0
BATCH = 500


class RetentionSettings(Protocol):
    """The settings that retention needs, in days; 0 for jobs: for ever."""

    @property
    def retain_checkpoints_days(self) -> float: ...
    @property
    def retain_events_days(self) -> float: ...
    @property
    def retain_jobs_days(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """How much was forgotten."""

    checkpoints: int = 0
    events: int = 0
    jobs: int = 0
    blobs: int = 0


def tidy_if_due(store: Store, settings: RetentionSettings) -> Tidied:
    """Tidy up, unless some process did so within the last minutes."""
    if not _is_due(store, "tidy", TIDY_EVERY_S):
        return Tidied()
    with store.begin() as tx:
        idempotency.prune(tx)
        datasets.fail_silent(tx, silent_s=INGESTION_SILENT_S)
        checkpoints = forget_checkpoints(tx, older_than_s=settings.retain_checkpoints_days * DAY_S)
        forgotten = forget_events(tx, older_than_s=settings.retain_events_days * DAY_S)
        jobs = forget_jobs(tx, older_than_s=settings.retain_jobs_days * DAY_S)
    swept = sweep(store) if _is_due(store, "sweep", SWEEP_EVERY_S) else 0
    return Tidied(checkpoints=checkpoints, events=forgotten, jobs=jobs, blobs=swept)


def forget_checkpoints(tx: Session, *, older_than_s: float) -> int:
    """Take the checkpoints of jobs that ended so long ago; ``sweep`` deletes the blobs."""
    statement = (
        update(JobRow)
        .where(_ended_before(older_than_s), JobRow.checkpoint_digest.is_not(None))
        .values(checkpoint_digest=None, checkpoint_step=None)
        .returning(JobRow.id)
    )
    return len(tx.execute(statement, execution_options={"synchronize_session": False}).all())


def forget_events(tx: Session, *, older_than_s: float) -> int:
    """Delete the events of jobs that ended so long ago, but for states: a stream must still find its end."""
    of_old_job = exists().where(JobRow.id == EventRow.job_id, _ended_before(older_than_s))
    statement = delete(EventRow).where(EventRow.type != events.STATE, of_old_job)
    result = tx.execute(statement.returning(EventRow.id), execution_options={"synchronize_session": False})
    return len(result.all())


def forget_jobs(tx: Session, *, older_than_s: float) -> int:
    """Delete jobs that ended so long ago, with their events; 0 keeps all. Encoders stay."""
    if older_than_s <= 0:
        return 0
    statement = delete(JobRow).where(_ended_before(older_than_s)).returning(JobRow.id)
    return len(tx.execute(statement, execution_options={"synchronize_session": False}).all())


def sweep(store: Store, *, grace: timedelta = GRACE) -> int:
    """Delete every blob that was stored longer ago than ``grace`` and that nothing refers to; how many."""
    before = datetime.now(UTC) - grace
    store.blobs.remove_leftovers(before)
    old = (blob.digest for blob in store.blobs.list_() if blob.stored_at < before)
    return sum(discard(store, digests, grace=grace) for digests in _batches(old))


def discard(store: Store, digests: Iterable[str], *, grace: timedelta = timedelta(0)) -> int:
    """Delete those of the blobs that nothing refers to and that are older than ``grace``; how many."""
    before = datetime.now(UTC) - grace
    with store.session() as tx:
        unused = references.unused(tx, digests)
    going = [digest for digest in unused if _is_old(store.blobs, digest, before)]
    for digest in going:
        store.blobs.delete(digest)
    return len(going)


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
