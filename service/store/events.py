"""Events of a job: what a client may stream and resume."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

STATE, PROGRESS, METRIC, CHECKPOINT, LOG, WARNING = (
    "state",
    "progress",
    "metric",
    "checkpoint",
    "log",
    "warning",
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event; ids rise within a job, and one that is visible has every lower one visible."""

    id: int
    type: str
    at: datetime
    data: dict[str, Any]
    format_version: int


def list_after(tx: Session, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
    """At most ``limit`` events of the job with an id above ``after``, oldest first."""
    raise NotImplementedError
