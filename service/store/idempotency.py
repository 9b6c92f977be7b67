"""Idempotency keys: the first answer of a request, kept to be given again.

``begin`` and ``finish`` may share one transaction with the work (a job), or ``begin`` commits first, the work takes
its time (an upload) and ``finish`` or ``forget`` comes later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from service.errors import IdempotencyInFlight, IdempotencyMismatch
from service.store.clock import is_past, now
from service.store.tables import AnyRow, IdempotencyRow
from service.store.upsert import insert

KEEP_S = 24 * 3600.0
TAKEOVER_S = 600.0
ANSWER = (IdempotencyRow.fingerprint, IdempotencyRow.status, IdempotencyRow.headers, IdempotencyRow.body)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The answer that was given the first time."""

    status: int
    headers: dict[str, str]
    body: bytes


def begin(
    tx: Session,
    *,
    key: str,
    scope: str,
    fingerprint: str,
    keep_s: float = KEEP_S,
    takeover_s: float = TAKEOVER_S,
) -> Replay | None:
    """None: this request is the first, go on. A Replay: answer with it.

    ``scope`` is the caller and the route, ``fingerprint`` a digest of the body. A request that was neither finished
    nor forgotten within ``takeover_s`` died, and its key may be used again. Raises IdempotencyMismatch (another
    body), IdempotencyInFlight.
    """
    fresh = {
        "fingerprint": fingerprint,
        "status": None,
        "headers": None,
        "body": None,
        "started_at": now(),
        "expires_at": now(keep_s),
    }
    statement = (
        insert(tx, IdempotencyRow)
        .values(key=key, scope=scope, **fresh)
        .on_conflict_do_update(
            index_elements=[IdempotencyRow.key, IdempotencyRow.scope],
            set_=fresh,
            where=_is_free(fingerprint, takeover_s),
        )
        .returning(IdempotencyRow.fingerprint)
    )
    if tx.execute(statement).first() is not None:
        return None
    return _judge(tx.execute(select(*ANSWER).where(*_is(key, scope))).one(), fingerprint)


def is_answered(tx: Session, *, key: str, scope: str) -> bool:
    """Whether there is an answer to be given again, whatever the body."""
    kept = (IdempotencyRow.status.is_not(None), IdempotencyRow.expires_at >= now())
    query = select(IdempotencyRow.key).where(*_is(key, scope), *kept)
    return tx.execute(query).first() is not None


def finish(
    tx: Session, *, key: str, scope: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Store the answer; the first one stays."""
    statement = (
        update(IdempotencyRow)
        .where(*_is(key, scope), IdempotencyRow.status.is_(None))
        .values(status=status, headers=dict(headers), body=body)
    )
    tx.execute(statement, execution_options={"synchronize_session": False})


def forget(tx: Session, *, key: str, scope: str) -> None:
    """The request created nothing: let the key be used again."""
    tx.execute(delete(IdempotencyRow).where(*_is(key, scope), IdempotencyRow.status.is_(None)))


def prune(tx: Session) -> int:
    """Delete what has expired; how many rows that were."""
    expired = delete(IdempotencyRow).where(is_past(IdempotencyRow.expires_at))
    return len(tx.execute(expired.returning(IdempotencyRow.key)).all())


def _is(key: str, scope: str) -> list[ColumnElement[bool]]:
    return [IdempotencyRow.key == key, IdempotencyRow.scope == scope]


def _is_free(fingerprint: str, takeover_s: float) -> ColumnElement[bool]:
    """Expired, or the same request that died on its way."""
    died = and_(
        IdempotencyRow.status.is_(None),
        IdempotencyRow.fingerprint == fingerprint,
        IdempotencyRow.started_at < now(-takeover_s),
    )
    return or_(is_past(IdempotencyRow.expires_at), died)


def _judge(stored: AnyRow, fingerprint: str) -> Replay:
    if stored.fingerprint != fingerprint:
        raise IdempotencyMismatch
    if stored.status is None:
        raise IdempotencyInFlight(retry_after_s=1)
    return Replay(status=stored.status, headers=stored.headers or {}, body=stored.body or b"")
