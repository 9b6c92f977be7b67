"""Leases for what must run in one process only, on the database's clock."""

from __future__ import annotations

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from service.store.clock import is_past, now
from service.store.tables import SingletonRow
from service.store.upsert import insert

FAR = 4
"""A lease that reaches so many times its length into the future was given by a clock that was set back since."""


def try_hold(tx: Session, name: str, owner: str, seconds: float) -> bool:
    """Take or extend the lease ``name`` for ``owner``; False while another owner has it."""
    lease = {"owner": owner, "until": now(seconds)}
    statement = (
        insert(tx, SingletonRow)
        .values(name=name, **lease)
        .on_conflict_do_update(
            index_elements=[SingletonRow.name],
            set_=lease,
            where=or_(
                SingletonRow.owner == owner,
                is_past(SingletonRow.until),
                SingletonRow.until > now(FAR * seconds),
            ),
        )
        .returning(SingletonRow.owner)
    )
    return tx.execute(statement).first() is not None


def is_held(tx: Session, name: str) -> bool:
    """Whether some owner has the lease now."""
    query = select(SingletonRow.name).where(SingletonRow.name == name, SingletonRow.until >= now())
    return tx.execute(query).first() is not None


def release(tx: Session, name: str, owner: str) -> None:
    """Give the lease back early, if it is still ours."""
    tx.execute(delete(SingletonRow).where(SingletonRow.name == name, SingletonRow.owner == owner))
