"""Which blobs are still needed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, union_all
from sqlalchemy.orm import Session

from service.store.tables import DatasetRow, EncoderFileRow, JobRow

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
