"""Creating and revoking keys, with their entries in the audit log; the API and the command line both come here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service.settings import Settings
from service.store import Store, audit, keys
from service.store.audit import BOOTSTRAP, By
from service.store.keys import Key


def create(
    tx: Session,
    by: By,
    *,
    pepper: bytes,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> tuple[Key, str]:
    """A new key and its secret, which cannot be had again. Raises WeakKey, ValueError for an unknown scope."""
    key, secret = keys.create(
        tx, pepper=pepper, name=name, scopes=scopes, expires_at=expires_at, secret=secret
    )
    audit.record(tx, by, "key.create", key.id, name=key.name, scopes=list(key.scopes))
    return key, secret


def revoke(tx: Session, by: By, key_id: str) -> Key:
    """Make the key useless from now on; idempotent. Raises NotFound."""
    was_revoked = (found := keys.get(tx, key_id)) is not None and found.revoked_at is not None
    key = keys.revoke(tx, key_id)
    if not was_revoked:
        audit.record(tx, by, "key.revoke", key.id, name=key.name)
    return key


def administered(tx: Session) -> bool:
    """Whether there is a key that may create others, not revoked nor expired."""
    now = datetime.now(UTC)
    return any(
        "admin" in key.scopes and key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
        for key in keys.list_(tx)
    )


def create_bootstrap_key(settings: Settings, store: Store) -> None:
    """The first key, from the settings; nothing if there is none to create, or it is there already."""
    if settings.bootstrap_key is None:
        return
    secret = settings.bootstrap_key.get_secret_value()
    with store.begin() as tx:
        if not keys.is_known(tx, secret, pepper=store.pepper):
            create(tx, By(BOOTSTRAP), pepper=store.pepper, name="bootstrap", scopes=("admin",), secret=secret)
