"""Which blobs are needed, and how much room they take."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select, union, union_all
from sqlalchemy.orm import Session

from service.store.tables import DatasetRow, EncoderFileRow, EncoderRow, JobRow

COLUMNS = (
    EncoderFileRow.digest,
    JobRow.checkpoint_digest,
    DatasetRow.blob_digest,
    DatasetRow.index_digest,
)
"""Every column that names a blob."""


def unused(tx: Session, digests: Iterable[str]) -> list[str]:
    """Those of the digests that no encoder, job or dataset refers to."""
    wanted = list(dict.fromkeys(digests))
    if not wanted:
        return []
    query = union_all(*(select(column).where(column.in_(wanted)) for column in COLUMNS))
    used = set(tx.scalars(query))
    return [digest for digest in wanted if digest not in used]


def everything(tx: Session) -> list[str]:
    """Every blob that is needed, once each."""
    wanted = union(
        *(select(column.label("digest")).where(column.is_not(None)) for column in COLUMNS)
    ).subquery()
    return list(tx.scalars(select(wanted.c.digest).order_by(wanted.c.digest)))


def stored_bytes(tx: Session) -> int:
    """Bytes of all encoders and uploaded datasets; of a dataset that failed nothing is kept."""
    sums = (
        select(func.coalesce(func.sum(EncoderRow.size_bytes), 0)),
        select(func.coalesce(func.sum(DatasetRow.size_bytes), 0)).where(DatasetRow.state != "failed"),
    )
    return sum(int(tx.execute(total).scalar_one()) for total in sums)


def checkpoint_bytes(tx: Session) -> int:
    """Bytes of all checkpoints; one that a retried job took over counts once."""
    sizes = (
        select(func.max(JobRow.checkpoint_bytes).label("size"))
        .where(JobRow.checkpoint_digest.is_not(None))
        .group_by(JobRow.checkpoint_digest)
        .subquery()
    )
    return int(tx.execute(select(func.coalesce(func.sum(sizes.c.size), 0))).scalar_one())


def used_bytes(tx: Session) -> int:
    """What the disk quota is held against: bytes of everything that a row refers to."""
    return stored_bytes(tx) + checkpoint_bytes(tx)
