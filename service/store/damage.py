"""Encoders whose files are gone or are not what was stored: noted by whoever finds it, seen by every process.

An encoder with damage is degraded: it cannot be loaded, and everything else goes on. The note is taken away as soon as
all its files are whole again, by the process that loads it or by ``recheck``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from service.errors import BlobDamaged, BlobMissing
from service.store.blobs import Blobs
from service.store.clock import now
from service.store.names import shown
from service.store.tables import DamageRow, EncoderFileRow, EncoderRow
from service.store.upsert import insert

if TYPE_CHECKING:
    from service.store.store import Store

RECHECK_EVERY_S = 30.0
RECHECK_AT_ONCE = 5
MOST_LABELS = 1000
GONE, CHANGED = "is gone", "is not what was stored"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong with an encoder; ``file`` is the first file that was found so, None: they do not fit together."""

    file: str | None
    detail: str
    found_at: datetime


def note(tx: Session, encoder_id: str, *, file: str | None, detail: str) -> None:
    """Note the damage, unless the encoder was deleted meanwhile."""
    known = select(EncoderRow.id).where(EncoderRow.id == encoder_id).with_for_update(read=True)
    if tx.execute(known).first() is None:
        return
    found = {"file": file, "detail": detail, "checked_at": now()}
    statement = insert(tx, DamageRow).values(encoder_id=encoder_id, found_at=now(), **found)
    tx.execute(statement.on_conflict_do_update(index_elements=[DamageRow.encoder_id], set_=found))


def clear(tx: Session, encoder_id: str) -> bool:
    """The encoder is whole again; whether it had been noted."""
    statement = delete(DamageRow).where(DamageRow.encoder_id == encoder_id).returning(DamageRow.encoder_id)
    return tx.execute(statement).first() is not None


_OF = select(DamageRow.encoder_id, DamageRow.file, DamageRow.detail, DamageRow.found_at).where(
    DamageRow.encoder_id.in_(bindparam("ids", expanding=True))
)


def of(tx: Session, encoder_ids: Sequence[str]) -> dict[str, Damage]:
    """The damage of those encoders that have any."""
    found = tx.execute(_OF, {"ids": encoder_ids})
    return {row.encoder_id: Damage(file=row.file, detail=row.detail, found_at=row.found_at) for row in found}


def labels(tx: Session, limit: int = MOST_LABELS) -> list[str]:
    """``name@version`` of every degraded encoder, those found first first."""
    query = (
        select(EncoderRow.kind, EncoderRow.name, EncoderRow.version)
        .join(DamageRow, DamageRow.encoder_id == EncoderRow.id)
        .order_by(DamageRow.found_at, EncoderRow.id)
        .limit(limit)
    )
    return [label(*row) for row in tx.execute(query)]


def label(kind: str, stored_name: str, version: int) -> str:
    """``name@version``; a generator says so."""
    version_of = f"{shown(stored_name)}@{version}"
    return version_of if kind == "encoder" else f"{kind} {version_of}"


def look(blobs: Blobs, digest: str) -> str | None:
    """What is wrong with one blob, read whole; None: nothing. Raises BlobsUnavailable."""
    try:
        blobs.verify(digest)
    except BlobMissing:
        return GONE
    except BlobDamaged:
        return CHANGED
    return None


def recheck(store: Store, *, every_s: float = RECHECK_EVERY_S, limit: int = RECHECK_AT_ONCE) -> int:
    """Look again at degraded encoders, a few at a time; how many are whole again."""
    with store.session() as tx:
        due = DamageRow.checked_at < now(-every_s)
        query = select(DamageRow.encoder_id, DamageRow.file).where(due).order_by(DamageRow.checked_at)
        waiting = tx.execute(query.limit(limit)).all()
    return sum(_recheck_one(store, row.encoder_id, row.file) for row in waiting)


def _recheck_one(store: Store, encoder_id: str, file: str | None) -> bool:
    """The file that was damaged is read first: while it is, the others need not be."""
    with store.session() as tx:
        columns = (EncoderFileRow.name, EncoderFileRow.digest)
        files = tx.execute(select(*columns).where(EncoderFileRow.encoder_id == encoder_id)).all()
    ordered = sorted(files, key=lambda row: (row.name != file, row.name))
    is_whole = file is not None and all(look(store.blobs, row.digest) is None for row in ordered)
    with store.begin() as tx:
        if is_whole:
            logger.info("encoder %s is whole again", encoder_id)
            return clear(tx, encoder_id)
        tx.execute(update(DamageRow).where(DamageRow.encoder_id == encoder_id).values(checked_at=now()))
        return False
