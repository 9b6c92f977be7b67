"""What a worker writes while it works; every function raises LostLease if its fence is stale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store import references
from service.store.jobs import rows
from service.store.jobs.values import Job, Lease
from service.store.tables import JobRow

WORKER_EVENTS = frozenset({"progress", "metric", "log", "warning"})
Events = Sequence[tuple[str, dict[str, Any]]]


def add_events(tx: Session, lease: Lease, events: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """Append events of the types in WORKER_EVENTS and return the id of the last one.

    Progress replaces the job's ``progress``, a metric is merged into its ``metrics``, a warning ``{code, detail}``
    is added to its ``warnings`` once. NaN and infinities are stored as null. Raises LostLease, and ValueError
    for another type.
    """
    events = tuple(events)
    for type_, _ in events:
        if type_ not in WORKER_EVENTS:
            raise ValueError(f"a worker writes events of {', '.join(sorted(WORKER_EVENTS))}, not {type_!r}")
    job = rows.change_leased(tx, lease, last_event_id=JobRow.last_event_id + len(events))
    if events:
        rows.write_events(tx, job, events)
    changes = _consequences(job, events)
    if changes:
        rows.change_leased(tx, lease, **changes)
    return job.last_event_id


def add_warning(tx: Session, lease: Lease, code: str, detail: str) -> None:
    """Add one warning to the job, with its event."""
    add_events(tx, lease, [("warning", {"code": code, "detail": detail})])


def set_resolved(tx: Session, lease: Lease, resolved: dict[str, Any]) -> None:
    """Store what "auto" became at the start, to be used again on resume."""
    rows.change_leased(tx, lease, resolved=resolved)


def add_checkpoint(tx: Session, lease: Lease, digest: str, step: int, size: int | None = None) -> str | None:
    """Make the blob ``digest`` the job's checkpoint, with its event.

    One of a later step than before counts the attempts from zero again: the same step twice is no progress, and a job
    that dies after its last step must not circle. ``size`` in bytes counts against the disk quota.

    Returns the digest of the checkpoint before if nothing needs that blob any more: delete it after the commit.
    """
    before = rows.change_leased(tx, lease, last_event_id=JobRow.last_event_id + 1)
    rows.write_events(tx, before, [("checkpoint", {"step": step})])
    changes = {
        "checkpoint_digest": digest,
        "checkpoint_step": step,
        "checkpoint_bytes": size,
    }
    if before.checkpoint_step is None or step > before.checkpoint_step:
        changes["attempts_without_checkpoint"] = 0
    rows.change_leased(tx, lease, **changes)
    if before.checkpoint_digest is None:
        return None
    return next(iter(references.unused(tx, [before.checkpoint_digest])), None)


def checkpoint_bytes(tx: Session, job_id: str) -> int:
    """Size of the job's own checkpoint, which the next one replaces; 0 where it shares that of another job."""
    query = select(JobRow.checkpoint_bytes).where(JobRow.id == job_id)
    return tx.execute(query).scalar_one_or_none() or 0


def _consequences(job: Job, events: Events) -> dict[str, Any]:
    """What the events change in the job's own row."""
    progress, metrics, warnings = job.progress, dict(job.metrics), list(job.warnings)
    for type_, data in events:
        if type_ == "progress":
            progress = data
        elif type_ == "metric":
            metrics |= data
        elif type_ == "warning" and data not in warnings:
            warnings.append(data)
    after = {"progress": progress, "metrics": metrics, "warnings": warnings}
    return {name: value for name, value in after.items() if value != getattr(job, name)}
