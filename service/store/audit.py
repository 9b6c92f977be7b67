"""The audit log: who changed what, when, by which request; written in the transaction of the change.

A change that is rolled back leaves no entry, and no change is committed without one. The entries are never altered;
they end with their retention (``retain_audit_days``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.ids import new_id
from service.store.paging import Keyset, Page
from service.store.tables import AnyRow, AuditRow

Action = Literal[
    "job.submit",
    "job.cancel",
    "job.retry",
    "job.delete",
    "dataset.create",
    "dataset.ready",
    "dataset.fail",
    "dataset.delete",
    "encoder.create",
    "encoder.delete",
    "generator.create",
    "generator.delete",
    "drift.reset",
    "alias.put",
    "alias.rollback",
    "alias.delete",
    "key.create",
    "key.revoke",
    "retention.forget",
    "doctor.repair",
    "store.restore",
]
OPEN, CLI, BOOTSTRAP, WORKER, RETENTION = "open", "cli", "bootstrap", "worker", "retention"
AUDIT = AuditRow.metadata.tables["audit"]
COLUMNS = tuple(AUDIT.columns)
NEW = insert(AUDIT).values(at=now())
NEWEST_FIRST = Keyset(AuditRow.at, AuditRow.id)


@dataclass(frozen=True)
class By:
    """Who changes something, in which request: the id of a key, ``open`` (no keys exist), ``cli`` or ``bootstrap``;
    of itself the service changes something as ``worker`` or ``retention``."""

    who: str
    request_id: str | None = None

    @property
    def is_key(self) -> bool:
        """Whether a key asks; only keys have limits of their own."""
        return self.who.startswith("key_")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change as it was noted."""

    id: str
    at: datetime
    who: str
    action: str
    target: str
    request_id: str | None
    detail: dict[str, Any] | None


def record(tx: Session, by: By, action: Action, target: str, **detail: Any) -> None:
    """Note a change in the transaction that makes it."""
    record_all(tx, by, action, [target], **detail)


def record_all(tx: Session, by: By, action: Action, targets: Iterable[str], **detail: Any) -> None:
    """Like ``record``, the same change of each target."""
    common = {"who": by.who, "action": action, "request_id": by.request_id, "detail": detail or None}
    rows = [{"id": new_id("aud_"), "target": target, **common} for target in targets]
    if rows:
        tx.execute(NEW, rows)


def list_(tx: Session, *, who: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[Entry]:
    """Changes, newest first, of one caller or all. Raises BadCursor."""
    query = select(*COLUMNS) if who is None else select(*COLUMNS).where(AuditRow.who == who)
    return NEWEST_FIRST.page(tx, query, _read, limit=limit, cursor=cursor)


def forget(tx: Session, *, older_than_s: float) -> int:
    """Delete entries that are so old; 0 keeps all. How many."""
    if older_than_s <= 0:
        return 0
    statement = delete(AuditRow).where(AuditRow.at < now(-older_than_s)).returning(AuditRow.id)
    return len(tx.execute(statement, execution_options={"synchronize_session": False}).all())


def _read(row: AnyRow) -> Entry:
    return Entry(**row._mapping)
