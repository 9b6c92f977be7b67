"""Leases for what must run in one process only, on the database's clock."""

from __future__ import annotations

from sqlalchemy import delete, or_
from sqlalchemy.orm import Session

from service.store.clock import is_past, now
from service.store.tables import SingletonRow
from service.store.upsert import insert


def try_hold(tx: Session, name: str, owner: str, seconds: float) -> bool:
    """Take or extend the lease ``name`` for ``owner``; False while another owner has it."""
    lease = {"owner": owner, "until": now(seconds)}
    statement = (
        insert(tx, SingletonRow)
        .values(name=name, **lease)
        .on_conflict_do_update(
            index_elements=[SingletonRow.name],
            set_=lease,
            where=or_(SingletonRow.owner == owner, is_past(SingletonRow.until)),
        )
        .returning(SingletonRow.owner)
    )
    return tx.execute(statement).first() is not None


def release(tx: Session, name: str, owner: str) -> None:
    """Give the lease back early, if it is still ours."""
    tx.execute(delete(SingletonRow).where(SingletonRow.name == name, SingletonRow.owner == owner))
