"""What was watched of each encoder's images: one row an encoder, which all API processes move on in turn.

The state is a value of ``nidim.drift`` that the store only keeps. Whoever moves it on holds its row meanwhile, so
tallies of several processes come one after the other, and none is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.tables import DriftRow, EncoderRow
from service.store.upsert import insert

MOST_SHOWN = 100
COLUMNS = (
    DriftRow.state,
    DriftRow.n,
    DriftRow.detector_log_days,
    DriftRow.since,
    DriftRow.updated_at,
    DriftRow.alarm_at,
)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """``state``: none before the first image; ``alarm_at``: when the detector first reached its threshold."""

    state: dict[str, Any] | None
    n: int
    detector_log_days: float | None
    since: datetime
    updated_at: datetime
    alarm_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What /metrics says of one encoder, ``name@version``."""

    encoder: str
    n: int
    detector_log_days: float | None
    alarm: bool


def get(tx: Session, encoder_id: str) -> Watched | None:
    """None: nothing was embedded yet."""
    row = tx.execute(select(*COLUMNS).where(DriftRow.encoder_id == encoder_id)).first()
    return None if row is None else Watched(**row._mapping)


def hold(tx: Session, encoder_id: str) -> tuple[Watched, float] | None:
    """The row, held until the transaction ends, and the seconds since it was last moved on; a new one where there is
    none. None: the encoder was deleted."""
    known = select(EncoderRow.id).where(EncoderRow.id == encoder_id).with_for_update(read=True)
    if tx.execute(known).first() is None:
        return None
    fresh = {"encoder_id": encoder_id, "n": 0, "since": now(), "updated_at": now()}
    one = insert(tx, DriftRow).values(**fresh)
    one = one.on_conflict_do_update(index_elements=[DriftRow.encoder_id], set_={"encoder_id": encoder_id})
    values = dict(tx.execute(one.returning(*COLUMNS, now().label("present"))).one()._mapping)
    elapsed_s = (values.pop("present") - values["updated_at"]).total_seconds()
    return Watched(**values), max(0.0, elapsed_s)


def move_on(
    tx: Session,
    encoder_id: str,
    *,
    state: dict[str, Any],
    n: int,
    detector_log_days: float | None,
    alarm: bool,
) -> bool:
    """Write what follows from the row that is held; an alarm stays. Whether this is the moment it began."""
    mine = DriftRow.encoder_id == encoder_id
    values = {"state": state, "n": n, "detector_log_days": detector_log_days}
    tx.execute(update(DriftRow).where(mine).values(**values, updated_at=now()))
    if not alarm:
        return False
    begun = update(DriftRow).where(mine, DriftRow.alarm_at.is_(None)).values(alarm_at=now())
    return tx.execute(begun.returning(DriftRow.encoder_id)).first() is not None


def reset(tx: Session, encoder_id: str) -> bool:
    """Begin anew; False: there was nothing yet."""
    gone = delete(DriftRow).where(DriftRow.encoder_id == encoder_id).returning(DriftRow.encoder_id)
    return tx.execute(gone).first() is not None


def shown(tx: Session) -> tuple[Shown, ...]:
    """Of the encoders that were used last, at most ``MOST_SHOWN``; those with an alarm first."""
    query = (
        select(
            EncoderRow.name,
            EncoderRow.version,
            DriftRow.n,
            DriftRow.detector_log_days,
            DriftRow.alarm_at,
        )
        .join(EncoderRow, EncoderRow.id == DriftRow.encoder_id)
        .order_by(DriftRow.alarm_at.is_(None), DriftRow.updated_at.desc())
        .limit(MOST_SHOWN)
    )
    return tuple(
        Shown(encoder=f"{name}@{version}", n=n, detector_log_days=log, alarm=alarm is not None)
        for name, version, n, log, alarm in tx.execute(query)
    )
