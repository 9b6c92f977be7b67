"""What a worker writes while it works; every function raises LostLease if its fence is stale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session

from service.store.jobs.values import Lease

WORKER_EVENTS = frozenset({"progress", "metric", "log", "warning"})


def add_events(tx: Session, lease: Lease, events: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """Append events of the types in WORKER_EVENTS and return the id of the last one.

    Progress replaces the job's ``progress``, a metric is merged into its ``metrics``, a warning ``{code, detail}``
    is added to its ``warnings`` once. NaN and infinities are stored as null. Raises LostLease, and ValueError for
    another type.
    """
    raise NotImplementedError


def add_warning(tx: Session, lease: Lease, code: str, detail: str) -> None:
    """Add one warning to the job, with its event."""
    raise NotImplementedError


def set_resolved(tx: Session, lease: Lease, resolved: dict[str, Any]) -> None:
    """Store what "auto" became at the start, to be used again on resume."""
    raise NotImplementedError


def add_checkpoint(tx: Session, lease: Lease, digest: str, step: int) -> str | None:
    """Make the blob ``digest`` the job's checkpoint, with its event, and count its attempts from zero again.

    Returns the digest of the checkpoint before if no row needs that blob any more: delete it after the commit.
    """
    raise NotImplementedError
