"""API keys: shown once, stored as an HMAC under a pepper that is not in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

SCOPES = ("read", "train", "embed", "admin")


@dataclass(frozen=True, kw_only=True)
class Key:
    """What may be shown of a key; ``prefix`` is the start of the secret."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def create(
    tx: Session,
    *,
    pepper: bytes,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> tuple[Key, str]:
    """A new key and its secret, which cannot be had again. ``secret`` is given for the bootstrap key only, and
    giving the same one twice returns the key that is there. Raises WeakKey; ValueError for an unknown scope.
    """
    raise NotImplementedError


def list_(tx: Session) -> list[Key]:
    """Every key, newest first, revoked ones too."""
    raise NotImplementedError


def exist(tx: Session) -> bool:
    """Whether any key was ever created; if not, a server on loopback is open."""
    raise NotImplementedError


def revoke(tx: Session, key_id: str) -> Key:
    """Make the key useless from now on; idempotent. Raises NotFound."""
    raise NotImplementedError


def verify(tx: Session, secret: str, *, pepper: bytes) -> Key | None:
    """The key of this secret if it is neither revoked nor expired; compared in constant time."""
    raise NotImplementedError


def touch(tx: Session, key_id: str) -> None:
    """Note that the key was used; writes at most once a minute."""
    raise NotImplementedError
