"""Events of a job: what a client may stream and resume.

The job's row hands out the ids and stays locked until the commit, so ids rise, and whoever sees one sees every lower
one: a reader that asks for what came after the last id it saw loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.ids import is_id
from service.store.tables import AnyRow, AnySelect, EventRow

STATE = "state"
PROGRESS = "progress"
METRIC = "metric"
CHECKPOINT = "checkpoint"
LOG = "log"
WARNING = "warning"
MAX_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event; ids rise within a job."""

    id: int
    type: str
    at: datetime
    data: dict[str, Any]
    format_version: int


def list_after(tx: Session, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
    """At most ``limit`` events of the job with an id above ``after``, oldest first."""
    if not is_id("job_", job_id):
        return []
    after = max(0, min(after, MAX_ID))
    return _read(tx.execute(_of(job_id).where(EventRow.id > after).limit(limit)))


def list_of_type(tx: Session, job_id: str, type_: str) -> list[Event]:
    """Every event of the job of one type, oldest first."""
    return _read(tx.execute(_of(job_id).where(EventRow.type == type_)))


def _of(job_id: str) -> AnySelect:
    columns = (EventRow.id, EventRow.type, EventRow.at, EventRow.data, EventRow.format_version)
    return select(*columns).where(EventRow.job_id == job_id).order_by(EventRow.id)


def _read(rows: Iterable[AnyRow]) -> list[Event]:
    return [Event(**row._mapping) for row in rows]
