"""How a worker lets go of a job; every function raises LostLease if its fence is stale.

If a cancel was accepted before, each of them ends the job ``cancelled`` instead: a cancel is binding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import false
from sqlalchemy.orm import Session

from service.errors import LostLease
from service.store import registry
from service.store.clock import now
from service.store.encoders import Encoder
from service.store.jobs import rows
from service.store.jobs.values import Job, Lease
from service.store.tables import JobRow


def succeed(
    tx: Session,
    lease: Lease,
    *,
    manifest: Mapping[str, Any],
    report: dict[str, Any],
    spec: dict[str, Any],
    resolved: dict[str, Any],
    dim: int,
    prior: dict[str, Any],
    size: int,
) -> Encoder | None:
    """Register the next version of the encoder's, or generator's, name and end the job, in this one transaction.

    ``manifest`` is ``{"files": {name: {"sha256": hex, "size": bytes}}, "digest": "sha256:…"}``; the files are
    blobs already. None: a cancel was accepted before; the job is cancelled now and nothing is registered.
    """
    job = _end(tx, lease, {"state": "succeeded", "resolved": resolved})
    if job.state != "succeeded":
        rows.write_state(tx, job)
        return None
    encoder = registry.register(
        tx,
        kind=job.makes,
        name=job.encoder,
        job_id=job.id,
        manifest=manifest,
        report=report,
        spec=spec,
        resolved=resolved,
        dim=dim,
        prior=prior,
        size=size,
    )
    result = {"name": encoder.name, "version": encoder.version, "id": encoder.id}
    job = rows.change(tx, job.id, [], {"result": result}) or job
    rows.write_state(tx, job)
    return encoder


def fail(tx: Session, lease: Lease, code: str, message: str) -> Job:
    """End the job ``failed`` with a stable code and a message for a person."""
    failure = {"code": code, "message": message}
    return rows.write_state(tx, _end(tx, lease, {"state": "failed", "failure": failure}))


def cancelled(tx: Session, lease: Lease) -> Job:
    """End the job ``cancelled``."""
    return rows.write_state(tx, rows.change_leased(tx, lease, **rows.ended(state="cancelled")))


def release(tx: Session, lease: Lease) -> Job:
    """Hand the job back to the queue because this worker stops; not an attempt without checkpoint."""
    queued = rows.queued_again(attempts_without_checkpoint=rows.one_attempt_less())
    return rows.write_state(tx, _unless_cancelled(tx, lease, queued))


def abandon(tx: Session, lease: Lease) -> None:
    """Let the lease run out now, because the attempt broke (the child died); the reaper decides at its next look.

    This one counts as an attempt without checkpoint, unless there was one. The lease has no owner any more, which
    tells it from one that ran out under a worker.
    """
    rows.change_leased(tx, lease, lease_until=now(-1.0), lease_owner=None)


def _end(tx: Session, lease: Lease, values: dict[str, Any]) -> Job:
    return _unless_cancelled(tx, lease, rows.ended(**values))


def _unless_cancelled(tx: Session, lease: Lease, values: dict[str, Any]) -> Job:
    """The worker's change, or the cancel that was accepted before it."""
    try:
        return rows.change_leased(tx, lease, JobRow.cancel_requested == false(), **values)
    except LostLease:
        return rows.change_leased(tx, lease, **rows.ended(state="cancelled"))
