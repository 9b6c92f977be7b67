"""What the API does with jobs: create, read, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.store.jobs.values import Job
from service.store.paging import Page


def create(
    tx: Session,
    *,
    kind: str,
    spec: dict[str, Any],
    resolved: dict[str, Any],
    warnings: Sequence[dict[str, Any]],
    encoder: str,
    priority: str,
    retry_of: str | None = None,
    checkpoint_digest: str | None = None,
    checkpoint_step: int | None = None,
) -> Job:
    """Write a queued job and its first event. ``spec["dataset"]`` cannot be deleted while the job needs it."""
    raise NotImplementedError


def get(tx: Session, job_id: str) -> Job | None:
    """The job with this id; None for any other string."""
    raise NotImplementedError


def list_(tx: Session, *, state: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[Job]:
    """Jobs, newest first, of one state or all. Raises BadCursor."""
    raise NotImplementedError


def count_waiting(tx: Session) -> int:
    """How many jobs are queued."""
    raise NotImplementedError


def request_cancel(tx: Session, job_id: str) -> Job:
    """Queued: cancelled at once. Running: flagged, and whatever the worker reports then, it ends cancelled.

    Raises NotFound, and StateConflict if it ended otherwise; cancelled already is no error.
    """
    raise NotImplementedError


def retry(tx: Session, job_id: str) -> Job:
    """A new queued job that starts from the last checkpoint of a failed or cancelled one.

    Raises NotFound, and StateConflict for a job in another state.
    """
    raise NotImplementedError


def mark_published(tx: Session, job_ids: Sequence[str]) -> None:
    """Note that the broker has taken these ids, so that the reaper does not publish them again at once."""
    raise NotImplementedError
