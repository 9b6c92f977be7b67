"""API keys: shown once, stored as HMAC-SHA256 under a pepper that is not in the database.

A key is found by its first characters, which may be shown, and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from service.errors import NotFound, WeakKey
from service.store.clock import now
from service.store.ids import is_id, new_id
from service.store.paging import Keyset, Page
from service.store.tables import AnyRow, KeyRow
from service.store.upsert import insert

SCOPES = ("read", "train", "embed", "admin")
START = "nk_"
PREFIX_LENGTH = len(START) + 8
MIN_LENGTH = len(START) + 32
MAX_LENGTH = 512
TOUCH_EVERY_S = 60.0
COLUMNS = tuple(column for column in KeyRow.__table__.columns if column.name != "mac")
NEWEST_FIRST = Keyset(KeyRow.created_at, KeyRow.id)


@dataclass(frozen=True, kw_only=True)
class Key:
    """What may be shown of a key; ``prefix`` is the start of its secret."""

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
    """A new key and its secret, which cannot be had again.

    ``secret`` is given where it must not be drawn here; given twice, it returns the key that is there. Raises WeakKey,
    ValueError for an unknown scope.
    """
    secret = START + secrets.token_urlsafe(32) if secret is None else secret
    if not _is_well_formed(secret):
        raise WeakKey
    mac = _mac(secret, pepper)
    values = {
        "id": new_id("key_"),
        "name": name,
        "prefix": secret[:PREFIX_LENGTH],
        "mac": mac,
        "scopes": _scopes(scopes),
        "created_at": now(),
        "expires_at": expires_at,
    }
    tx.execute(insert(tx, KeyRow).values(values).on_conflict_do_nothing())
    return _read(tx.execute(select(*COLUMNS).where(KeyRow.mac == mac)).one()), secret


def list_(tx: Session) -> list[Key]:
    """Every key, newest first, revoked ones too."""
    query = select(*COLUMNS).order_by(KeyRow.created_at.desc(), KeyRow.id.desc())
    return [_read(row) for row in tx.execute(query)]


def page(tx: Session, *, limit: int = 50, cursor: str | None = None) -> Page[Key]:
    """Every key, newest first, some at a time. Raises BadCursor."""
    return NEWEST_FIRST.page(tx, select(*COLUMNS), _read, limit=limit, cursor=cursor)


def get(tx: Session, key_id: str) -> Key | None:
    """The key with this id; None for any other string."""
    if not is_id("key_", key_id):
        return None
    row = tx.execute(select(*COLUMNS).where(KeyRow.id == key_id)).one_or_none()
    return None if row is None else _read(row)


def lock(tx: Session, key_id: str) -> None:
    """Let no other transaction past this line for the same key before this one ends."""
    tx.execute(select(KeyRow.id).where(KeyRow.id == key_id).with_for_update(key_share=True))


def is_known(tx: Session, secret: str, *, pepper: bytes) -> bool:
    """Whether a key of this secret was ever created, revoked and expired ones too."""
    if not _is_well_formed(secret):
        return False
    return tx.execute(select(KeyRow.id).where(KeyRow.mac == _mac(secret, pepper))).first() is not None


def exist(tx: Session) -> bool:
    """Whether any key was ever created; if not, a server on loopback is open."""
    return tx.execute(select(KeyRow.id).limit(1)).first() is not None


def revoke(tx: Session, key_id: str) -> Key:
    """Make the key useless from now on; idempotent. Raises NotFound."""
    statement = (
        update(KeyRow)
        .where(KeyRow.id == key_id)
        .values(revoked_at=func.coalesce(KeyRow.revoked_at, now()))
        .returning(*COLUMNS)
    )
    known = is_id("key_", key_id)
    row = (
        tx.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
        if known
        else None
    )
    if row is None:
        raise NotFound("There is no key with this id; look at the list of keys.")
    return _read(row)


def verify(tx: Session, secret: str, *, pepper: bytes) -> Key | None:
    """The key of this secret if it is neither revoked nor expired."""
    if not _is_well_formed(secret):
        return None
    presented = _mac(secret, pepper)
    valid = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now())
    query = select(*COLUMNS, KeyRow.mac).where(
        KeyRow.prefix == secret[:PREFIX_LENGTH], KeyRow.revoked_at.is_(None), valid
    )
    matching = [row for row in tx.execute(query) if hmac.compare_digest(row.mac, presented)]
    return _read(matching[0]) if matching else None


def touch(tx: Session, key_id: str) -> None:
    """Note that the key was used; writes at most once a minute."""
    stale = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < now(-TOUCH_EVERY_S))
    statement = update(KeyRow).where(KeyRow.id == key_id, stale).values(last_used_at=now())
    tx.execute(statement, execution_options={"synchronize_session": False})


def _is_well_formed(secret: str) -> bool:
    """Long enough that its prefix gives nothing away, and text that every database takes."""
    printable = secret.isascii() and secret.isprintable()
    return secret.startswith(START) and MIN_LENGTH <= len(secret) <= MAX_LENGTH and printable


def _mac(secret: str, pepper: bytes) -> str:
    return hmac.new(pepper, secret.encode("ascii"), hashlib.sha256).hexdigest()


def _scopes(scopes: Iterable[str]) -> list[str]:
    wanted = set(scopes)
    unknown = wanted - set(SCOPES)
    if unknown or not wanted:
        raise ValueError(f"scopes must be some of {', '.join(SCOPES)}, not {sorted(unknown) or 'none'}")
    return [scope for scope in SCOPES if scope in wanted]


def _read(row: AnyRow) -> Key:
    values = {name: row._mapping[name] for name in Key.__dataclass_fields__}
    return Key(**{**values, "scopes": tuple(values["scopes"])})
