"""Statements on the job row that several modules share; the only place that writes ``jobs`` for a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, insert, select, update
from sqlalchemy.orm import Session

from nidim import FORMAT_VERSION
from service.errors import LostLease, NotFound
from service.store.clock import now
from service.store.ids import is_id
from service.store.jobs.values import Job, Lease
from service.store.tables import EventRow, JobRow

JOBS = JobRow.metadata.tables["jobs"]
COLUMNS = tuple(JOBS.columns)
EVENTS = EventRow.metadata.tables["events"]
ONE = select(*COLUMNS).where(JOBS.c.id == bindparam("job_id"))
ONE_LOCKED = ONE.with_for_update()
NEW_EVENTS = insert(EVENTS).values(at=now(), format_version=FORMAT_VERSION)
"""Statements are built once where a request waits for them: SQLAlchemy takes longer to build one than to run it."""
NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_until": None}


def read(tx: Session, job_id: str, *, lock: bool = False) -> Job | None:
    """The job, with its row locked for this transaction if asked."""
    if not is_id("job_", job_id):
        return None
    row = tx.execute(ONE_LOCKED if lock else ONE, {"job_id": job_id}).one_or_none()
    return None if row is None else Job.from_row(row)


def locked(tx: Session, job_id: str) -> Job:
    """The job with its row locked. Raises NotFound."""
    job = read(tx, job_id, lock=True)
    if job is None:
        raise NotFound("There is no job with this id; look at the list of jobs.")
    return job


def change(
    tx: Session, job_id: str, where: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Job | None:
    """One conditional UPDATE; the job as it is now, or None if the conditions did not hold."""
    statement = update(JobRow).where(JobRow.id == job_id, *where).values(values).returning(*COLUMNS)
    row = tx.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
    return None if row is None else Job.from_row(row)


def change_leased(tx: Session, lease: Lease, *where: ColumnElement[bool], **values: Any) -> Job:
    """A worker's UPDATE, behind the fence. Raises LostLease."""
    job = change(tx, lease.job_id, [*is_held_by(lease), *where], values)
    if job is None:
        raise LostLease
    return job


def is_held_by(lease: Lease) -> list[ColumnElement[bool]]:
    """The fence. A lease that ran out and that nobody took is still ours: nothing happened in between."""
    return [JobRow.state == "running", JobRow.fence == lease.fence, JobRow.lease_owner == lease.owner]


def is_live() -> ColumnElement[bool]:
    """Queued or running."""
    return JobRow.state.in_(("queued", "running"))


def ended(**values: Any) -> dict[str, Any]:
    """What every end of a job sets, besides ``values``."""
    return {
        "finished_at": now(),
        "last_event_id": JobRow.last_event_id + 1,
        **NO_LEASE,
        **values,
    }


def queued_again(**values: Any) -> dict[str, Any]:
    """What every return to the queue sets: nobody has it, and the reaper publishes it at its next look."""
    return {
        "state": "queued",
        "published_at": None,
        "publish_count": 0,
        "last_event_id": JobRow.last_event_id + 1,
        **NO_LEASE,
        **values,
    }


def one_attempt_less() -> ColumnElement[int]:
    """The count of attempts without checkpoint as if this attempt had not been."""
    count = JobRow.attempts_without_checkpoint
    return case((count > 0, count - 1), else_=0)


def write_events(tx: Session, job: Job, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Insert the events whose ids end at ``job.last_event_id``, which the caller has just raised by their number."""
    first = job.last_event_id - len(events) + 1
    numbered = [
        {"job_id": job.id, "id": first + offset, "type": type_, "data": data}
        for offset, (type_, data) in enumerate(events)
    ]
    tx.execute(NEW_EVENTS, numbered)


def write_state(tx: Session, job: Job, origin: Mapping[str, str] | None = None) -> Job:
    """The event of a state that the caller has just written, with ``last_event_id`` raised by one.

    ``origin``: what the first event remembers of the request that submitted the job.
    """
    data: dict[str, Any] = {"state": job.state, "attempt": job.attempt, **(origin or {})}
    if job.failure is not None:
        data["failure"] = job.failure
    if job.result is not None:
        data["result"] = job.result
    write_events(tx, job, [("state", data)])
    return job
