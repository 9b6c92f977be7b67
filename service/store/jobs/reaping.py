"""What the reaper repairs: leases that ran out, jobs that the queue lost or never had."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Publication:
    """A job that has to be published (again)."""

    job_id: str
    priority: str


@dataclass(frozen=True, kw_only=True)
class Reaped:
    """What one look found; ``publish`` is to be sent after the commit, then ``jobs.mark_published``."""

    requeued: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]
    publish: tuple[Publication, ...]


def reap(
    tx: Session, *, max_attempts_without_checkpoint: int, republish_after_s: float, limit: int = 500
) -> Reaped:
    """Judge expired leases and collect what has to be published."""
    raise NotImplementedError
