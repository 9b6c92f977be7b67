"""What the reaper repairs: leases that ran out, jobs that the queue lost or never had.

A queued job that was published and not taken is published again after ``republish_after_s``, then after twice as
long and so on up to sixteen times: the message may be lost, or the job may just have to wait for its turn.

The database's clock may be set back. Then what was written before lies in the future: a dead worker would hold its
lease for as long as the jump was, a lost message would not be sent again. No lease ever reaches far beyond its length,
so one that does is pulled back; a living worker renews its own seconds later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from service.store.clock import is_past, now
from service.store.jobs import rows
from service.store.jobs.values import Job
from service.store.tables import JobRow

LONGEST_WAIT = 4
"""The wait for another publication is doubled at most so often."""
FAR = 4
"""A lease that reaches so many times its length into the future was given by a clock that was set back since."""
POISON = "poison"


@dataclass(frozen=True)
class Publication:
    """A job that has to be published (again)."""

    job_id: str
    priority: str


@dataclass(frozen=True, kw_only=True)
class Reaped:
    """What one look found; ``publish`` is to be sent after the commit, then ``jobs.mark_published``.

    ``silent``: how many of the leases ran out while a worker held them, instead of being handed back.
    """

    requeued: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]
    publish: tuple[Publication, ...]
    silent: int = 0


def reap(
    tx: Session,
    *,
    max_attempts_without_checkpoint: int,
    republish_after_s: float,
    lease_s: float = 30.0,
    limit: int = 500,
) -> Reaped:
    """Judge expired leases and collect what has to be published, oldest first."""
    _pull_back(tx, lease_s=lease_s, republish_after_s=republish_after_s)
    verdicts = [_judge(tx, job_id, max_attempts_without_checkpoint) for job_id in _expired(tx, limit)]
    judged = [after for _, after in filter(None, verdicts)]
    return Reaped(
        requeued=tuple(job.id for job in judged if job.state == "queued"),
        failed=tuple(job.id for job in judged if job.state == "failed"),
        cancelled=tuple(job.id for job in judged if job.state == "cancelled"),
        publish=_unpublished(tx, republish_after_s, limit),
        silent=sum(before.lease_owner is not None for before, _ in filter(None, verdicts)),
    )


def _pull_back(tx: Session, *, lease_s: float, republish_after_s: float) -> None:
    """Moments that only a clock that was set back since can have written."""
    leases = update(JobRow).where(JobRow.state == "running", JobRow.lease_until > now(FAR * lease_s))
    published = update(JobRow).where(JobRow.state == "queued", JobRow.published_at > now(republish_after_s))
    unsynchronized = {"synchronize_session": False}
    tx.execute(leases.values(lease_until=now(lease_s)), execution_options=unsynchronized)
    tx.execute(published.values(published_at=now()), execution_options=unsynchronized)


def _is_expired() -> list[ColumnElement[bool]]:
    return [JobRow.state == "running", is_past(JobRow.lease_until)]


def _expired(tx: Session, limit: int) -> list[str]:
    query = select(JobRow.id).where(*_is_expired()).order_by(JobRow.lease_until).limit(limit)
    return list(tx.scalars(query.with_for_update(skip_locked=True)))


def _judge(tx: Session, job_id: str, max_attempts: int) -> tuple[Job, Job] | None:
    """Queue the job again, or end it: the job before and after; None if its worker was quicker."""
    job = rows.read(tx, job_id)
    if job is None:
        return None
    still = [*_is_expired(), JobRow.fence == job.fence]
    judged = rows.change(tx, job_id, still, _verdict(job, max_attempts))
    return None if judged is None else (job, rows.write_state(tx, judged))


def _verdict(job: Job, max_attempts: int) -> dict[str, Any]:
    if job.cancel_requested:
        return rows.ended(state="cancelled")
    if job.attempts_without_checkpoint >= max_attempts:
        message = (
            f"{job.attempts_without_checkpoint} attempts in a row ended without a new checkpoint; read the job's "
            "log events, then retry with a smaller model or batch, or on a machine with more memory."
        )
        return rows.ended(state="failed", failure={"code": POISON, "message": message})
    return rows.queued_again()


def _unpublished(tx: Session, republish_after_s: float, limit: int) -> tuple[Publication, ...]:
    waits = [
        (JobRow.publish_count <= times + 1) & (JobRow.published_at < now(-republish_after_s * 2**times))
        for times in range(LONGEST_WAIT)
    ]
    longest = JobRow.published_at < now(-republish_after_s * 2**LONGEST_WAIT)
    query = (
        select(JobRow.id, JobRow.priority)
        .where(JobRow.state == "queued", or_(JobRow.published_at.is_(None), *waits, longest))
        .order_by(JobRow.created_at, JobRow.id)
        .limit(limit)
    )
    return tuple(Publication(job_id, priority) for job_id, priority in tx.execute(query))
