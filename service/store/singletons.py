"""Leases for what must run in one process only, on the database's clock."""

from __future__ import annotations

from sqlalchemy.orm import Session


def try_hold(tx: Session, name: str, owner: str, seconds: float) -> bool:
    """Take or extend the lease ``name`` for ``owner``; False while another owner has it."""
    raise NotImplementedError


def release(tx: Session, name: str, owner: str) -> None:
    """Give the lease back early, if it is still ours."""
    raise NotImplementedError
