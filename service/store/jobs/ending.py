"""How a worker lets go of a job; every function raises LostLease if its fence is stale.

If a cancel was accepted before, each of them ends the job ``cancelled`` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from service.store.encoders import Encoder
from service.store.jobs.values import Job, Lease


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
    """Register the next version of the encoder's name and end the job, in this one transaction.

    ``manifest`` is ``{"files": {name: {"sha256": hex, "size": bytes}}, "digest": "sha256:…"}``; the files are blobs
    already. None: a cancel was accepted before; the job is cancelled now and nothing is registered.
    """
    raise NotImplementedError


def fail(tx: Session, lease: Lease, code: str, message: str) -> Job:
    """End the job ``failed`` with a stable code and a message for a person."""
    raise NotImplementedError


def cancelled(tx: Session, lease: Lease) -> Job:
    """End the job ``cancelled``."""
    raise NotImplementedError


def release(tx: Session, lease: Lease) -> Job:
    """Hand the job back to the queue because this worker stops; does not count as an attempt without checkpoint."""
    raise NotImplementedError


def abandon(tx: Session, lease: Lease) -> None:
    """Let the lease run out now, because the attempt broke (the child died): the reaper decides at its next look.

    This one counts as an attempt without checkpoint, unless there was one.
    """
    raise NotImplementedError
