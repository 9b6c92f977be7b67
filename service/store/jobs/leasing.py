"""Taking and keeping the right to work on a job."""

from __future__ import annotations

from sqlalchemy import and_, false, func, or_
from sqlalchemy.orm import Session

from service.store.clock import is_past, now
from service.store.ids import is_id
from service.store.jobs import rows
from service.store.jobs.values import HeartbeatAnswer, Lease
from service.store.tables import JobRow


def take_lease(tx: Session, job_id: str, *, owner: str, lease_s: float) -> Lease | None:
    """One conditional UPDATE: queued, or running with a lease that ran out, becomes running and ours.

    None: somebody else has it, it has ended or is being cancelled, or there is no such job; drop the message.
    """
    if not is_id("job_", job_id):
        return None
    free = or_(JobRow.state == "queued", and_(JobRow.state == "running", is_past(JobRow.lease_until)))
    job = rows.change(
        tx,
        job_id,
        [free, JobRow.cancel_requested == false()],
        {
            "state": "running",
            "attempt": JobRow.attempt + 1,
            "attempts_without_checkpoint": JobRow.attempts_without_checkpoint + 1,
            "fence": JobRow.fence + 1,
            "lease_owner": owner,
            "lease_until": now(lease_s),
            "started_at": func.coalesce(JobRow.started_at, now()),
            "last_event_id": JobRow.last_event_id + 1,
        },
    )
    if job is None:
        return None
    rows.write_state(tx, job)
    assert job.lease_until is not None
    return Lease(job_id=job.id, owner=owner, fence=job.fence, until=job.lease_until, job=job)


def heartbeat(tx: Session, lease: Lease, lease_s: float) -> HeartbeatAnswer:
    """Extend the lease by ``lease_s`` from now and learn whether a cancel waits. Never raises LostLease."""
    job = rows.change(tx, lease.job_id, rows.is_held_by(lease), {"lease_until": now(lease_s)})
    return HeartbeatAnswer(alive=job is not None, cancel_requested=job is not None and job.cancel_requested)
