"""Figures of the whole system, read from the database: every server says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from service.store import counters, drift
from service.store.clock import is_past, now
from service.store.jobs.values import STATES
from service.store.names import Kind
from service.store.tables import (
    AnySelect,
    DamageRow,
    DatasetRow,
    EncoderFileRow,
    EncoderRow,
    EventRow,
    JobRow,
)

DATASET_STATES = ("ready", "ingesting", "failed")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """``queue_age_s``: how long the job waits that waits longest; ``ingest_silence_s``: the longest since an ingestion
    gave a sign of life; ``blob_bytes``: of the files that encoders, datasets and checkpoints refer to."""

    jobs: Mapping[str, int]
    queue_age_s: float
    leases_overdue: int
    datasets: Mapping[str, int]
    ingest_silence_s: float
    encoder_versions: int
    generator_versions: int
    encoders_damaged: int
    blob_bytes: Mapping[str, int]
    counters: Mapping[tuple[str, str], int]
    drifts: tuple[drift.Shown, ...] = ()


def read(tx: Session) -> Figures:
    """All of them, in one consistent state."""
    overdue = select(func.count()).where(JobRow.state == "running", is_past(JobRow.lease_until))
    return Figures(
        jobs=_by_state(tx, JobRow, STATES),
        queue_age_s=_age_s(tx, _queued_since()),
        leases_overdue=tx.execute(overdue).scalar_one(),
        datasets=_by_state(tx, DatasetRow, DATASET_STATES),
        ingest_silence_s=_age_s(
            tx, select(func.min(DatasetRow.touched_at), now()).where(DatasetRow.state == "ingesting")
        ),
        encoder_versions=_versions(tx, "encoder"),
        generator_versions=_versions(tx, "generator"),
        encoders_damaged=tx.execute(select(func.count()).select_from(DamageRow)).scalar_one(),
        blob_bytes={
            "encoders": _encoder_bytes(tx),
            "datasets": _dataset_bytes(tx),
            "checkpoints": _checkpoint_bytes(tx),
        },
        counters=counters.read(tx),
        drifts=drift.shown(tx),
    )


def unattended_s(tx: Session) -> float:
    """How long the job waits that waits longest, where no job is at work; else 0."""
    running = select(JobRow.id).where(JobRow.state == "running").limit(1)
    return 0.0 if tx.execute(running).first() else _age_s(tx, _queued_since())


def _by_state(tx: Session, table: type[JobRow | DatasetRow], states: tuple[str, ...]) -> dict[str, int]:
    query = select(table.state, func.count()).group_by(table.state)
    found = dict(tx.execute(query).all())
    return {state: found.get(state, 0) for state in states}


def _versions(tx: Session, kind: Kind) -> int:
    return tx.execute(select(func.count()).where(EncoderRow.kind == kind)).scalar_one()


def _queued_since() -> AnySelect:
    """The last event of a queued job is the one that says so: a job that came back waits since then."""
    last: ColumnElement[bool] = and_(EventRow.job_id == JobRow.id, EventRow.id == JobRow.last_event_id)
    return select(func.min(EventRow.at), now()).join(JobRow, last).where(JobRow.state == "queued")


def _age_s(tx: Session, query: AnySelect) -> float:
    since, present = tx.execute(query).one()
    return 0.0 if since is None else max(0.0, (present - since).total_seconds())


def _encoder_bytes(tx: Session) -> int:
    """Files that several encoders share lie there once."""
    files = select(EncoderFileRow.digest, EncoderFileRow.size).distinct().subquery()
    return int(tx.execute(select(func.coalesce(func.sum(files.c.size), 0))).scalar_one())


def _dataset_bytes(tx: Session) -> int:
    held = select(DatasetRow.blob_digest, DatasetRow.size_bytes).where(DatasetRow.blob_digest.is_not(None))
    files = held.distinct().subquery()
    return int(tx.execute(select(func.coalesce(func.sum(files.c.size_bytes), 0))).scalar_one())


def _checkpoint_bytes(tx: Session) -> int:
    """A retried job begins with the checkpoint of the job before."""
    held = select(JobRow.checkpoint_digest, JobRow.checkpoint_bytes).where(
        JobRow.checkpoint_bytes.is_not(None)
    )
    files = held.distinct().subquery()
    return int(tx.execute(select(func.coalesce(func.sum(files.c.checkpoint_bytes), 0))).scalar_one())
