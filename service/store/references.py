"""Which blobs are needed, and how much room they take."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select, union_all
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


def stored_bytes(tx: Session) -> int:
    """Bytes of all encoders and uploaded datasets, for the quota; checkpoints come and go and are not counted."""
    sums = (func.coalesce(func.sum(column), 0) for column in (EncoderRow.size_bytes, DatasetRow.size_bytes))
    return sum(int(tx.execute(select(total)).scalar_one()) for total in sums)
