"""Aliases: names that move from version to version by compare-and-swap, with their history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Where an alias points; ``etag`` (quoted, ready for the header) changes with every move and never comes back."""

    name: str
    alias: str
    version: int
    etag: str
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    """One entry of the history; ``version`` is None where the alias was deleted."""

    version: int | None
    etag: str
    at: datetime


def put(tx: Session, name: str, alias: str, version: int, *, if_match: str | None = None) -> Alias:
    """Point the alias to a version; nothing changes if it does already.

    ``if_match`` is the header as it came. Raises NotFound (no such version), PreconditionFailed.
    """
    raise NotImplementedError


def get(tx: Session, name: str, alias: str) -> Alias | None:
    """Where the alias points."""
    raise NotImplementedError


def delete(tx: Session, name: str, alias: str, *, if_match: str | None = None) -> None:
    """Delete the alias. Raises NotFound, PreconditionFailed."""
    raise NotImplementedError


def history(tx: Session, name: str, alias: str) -> list[AliasMove]:
    """Every move, newest first; still there after the alias is deleted, empty if there never was one."""
    raise NotImplementedError
