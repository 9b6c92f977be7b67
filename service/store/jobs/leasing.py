"""Taking and keeping the right to work on a job."""

from __future__ import annotations

from sqlalchemy.orm import Session

from service.store.jobs.values import HeartbeatAnswer, Lease


def take_lease(tx: Session, job_id: str, *, owner: str, lease_s: float) -> Lease | None:
    """One conditional UPDATE: queued, or running with a lease that ran out, becomes running and ours.

    None: somebody else has it, it has ended or is being cancelled, or there is no such job; drop the message.
    """
    raise NotImplementedError


def heartbeat(tx: Session, lease: Lease, lease_s: float) -> HeartbeatAnswer:
    """Extend the lease by ``lease_s`` from now and learn whether a cancel waits. Never raises LostLease."""
    raise NotImplementedError
