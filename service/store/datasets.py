"""Uploaded datasets. The built-in ones are no rows; they live in ``nidim.data``.

ingesting ──set_state──▶ ready
    └──set_state, fail_silent──▶ failed ──create──▶ ingesting
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, null, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from nidim.spec import DatasetFacts
from service.errors import DatasetInUse, DatasetUnavailable, NameTaken, NotFound, StateConflict
from service.store.clock import now
from service.store.names import is_name
from service.store.paging import Keyset, Page
from service.store.tables import AnyRow, DatasetRow, JobRow
from service.store.upsert import insert

COLUMNS = tuple(column for column in DatasetRow.__table__.columns if column.name != "touched_at")
NEWEST_FIRST = Keyset(DatasetRow.created_at, DatasetRow.name)
SILENT = "ingest_interrupted"
BLANK: dict[str, Any] = {"items": 0, "classes": []}
"""What is not null in a dataset of which nothing is known yet."""
ONE = select(*COLUMNS).where(DatasetRow.metadata.tables["datasets"].c.name == bindparam("wanted"))
ONE_HELD = ONE.with_for_update(read=True)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One uploaded dataset as the database has it; ``classes`` are their names, ``image`` sizes in pixels."""

    name: str
    kind: str
    state: str
    items: int
    classes: list[str]
    image: dict[str, int] | None
    splits: dict[str, int] | None
    license: str | None
    digest: str | None
    blob_digest: str | None
    index_digest: str | None
    size_bytes: int
    skipped: dict[str, Any] | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    created_by: str | None
    created_at: datetime

    @property
    def facts(self) -> DatasetFacts:
        """What a spec needs to know of it. Raises DatasetUnavailable until it is ready."""
        if self.state != "ready" or self.image is None or self.splits is None:
            raise DatasetUnavailable(f"The dataset {self.name} {self._lacks}")
        return DatasetFacts.model_validate(
            {
                "name": self.name,
                "n_train": self.splits["train"],
                "n_test": self.splits["test"],
                **self.image,
                "classes": len(self.classes),
            }
        )

    @property
    def _lacks(self) -> str:
        """Why there are no facts, and what to do."""
        if self.state == "ingesting":
            return "is still being read; wait until its state is ready."
        return "could not be read, its error says why; upload it again."


def create(
    tx: Session,
    *,
    name: str,
    license: str | None = None,  # noqa: A002 - the field's name everywhere
    blob_digest: str | None = None,
    size_bytes: int = 0,
    created_by: str | None = None,
) -> Dataset:
    """Reserve the name, state ``ingesting``; one whose ingestion failed is free again. Raises NameTaken."""
    values: dict[str, Any] = {
        "name": name,
        "kind": "uploaded",
        "state": "ingesting",
        "license": license,
        "blob_digest": blob_digest,
        "size_bytes": size_bytes,
        "created_by": created_by,
        "created_at": now(),
        "touched_at": now(),
    }
    fresh = {column.name: null() for column in DatasetRow.__table__.columns} | BLANK | values
    statement = (
        insert(tx, DatasetRow)
        .values(fresh)
        .on_conflict_do_update(
            index_elements=[DatasetRow.name], set_=fresh, where=DatasetRow.state == "failed"
        )
        .returning(*COLUMNS)
    )
    row = tx.execute(statement).one_or_none()
    if row is None:
        raise NameTaken(f"There is a dataset {name} already; choose another name or delete it first.")
    return _read(row)


def get(tx: Session, name: str) -> Dataset | None:
    """The uploaded dataset of this name."""
    if not is_name(name):
        return None
    row = tx.execute(ONE, {"wanted": name}).one_or_none()
    return None if row is None else _read(row)


def list_(tx: Session, *, limit: int = 50, cursor: str | None = None) -> Page[Dataset]:
    """Uploaded datasets, newest first. Raises BadCursor."""
    return NEWEST_FIRST.page(tx, select(*COLUMNS), _read, limit=limit, cursor=cursor)


def bytes_of(tx: Session, created_by: str) -> int:
    """The bytes that one creator has uploaded and that are kept, or are being read."""
    query = select(func.coalesce(func.sum(DatasetRow.size_bytes), 0)).where(
        DatasetRow.created_by == created_by, DatasetRow.state != "failed"
    )
    return int(tx.execute(query).scalar_one())


def hold(tx: Session, name: str) -> Dataset | None:
    """Like ``get``, and nobody can delete it before this transaction ends; ``jobs.create`` does so by itself."""
    if not is_name(name):
        return None
    row = tx.execute(ONE_HELD, {"wanted": name}).one_or_none()
    return None if row is None else _read(row)


def set_progress(
    tx: Session, name: str, progress: Mapping[str, Any], *, made_at: datetime | None = None
) -> None:
    """Store the progress of an ingestion; also its sign of life (see ``fail_silent``)."""
    statement = (
        update(DatasetRow)
        .where(_is(name, made_at), DatasetRow.state == "ingesting")
        .values(progress=dict(progress), touched_at=now())
    )
    tx.execute(statement, execution_options={"synchronize_session": False})


def set_state(
    tx: Session,
    name: str,
    state: str,
    *,
    made_at: datetime | None = None,
    items: int | None = None,
    classes: Sequence[str] | None = None,
    image: Mapping[str, int] | None = None,
    splits: Mapping[str, int] | None = None,
    digest: str | None = None,
    blob_digest: str | None = None,
    index_digest: str | None = None,
    size_bytes: int | None = None,
    skipped: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> Dataset:
    """Move on from ``ingesting``; what is None stays as it is.

    ``made_at``: of the dataset that is meant, whose name another one may have by now. Raises NotFound, StateConflict if
    it had moved on.
    """
    given = {
        "items": items,
        "classes": None if classes is None else list(classes),
        "image": image,
        "splits": splits,
        "digest": digest,
        "blob_digest": blob_digest,
        "index_digest": index_digest,
        "size_bytes": size_bytes,
        "skipped": skipped,
        "error": error,
    }
    values = {field: value for field, value in given.items() if value is not None}
    statement = (
        update(DatasetRow)
        .where(_is(name, made_at), DatasetRow.state == "ingesting")
        .values(state=state, touched_at=now(), progress=None, **values)
        .returning(*COLUMNS)
    )
    row = tx.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
    return _read(row) if row is not None else _refuse(tx, name)


def set_index(tx: Session, name: str, digest: str, *, instead_of: str | None) -> None:
    """Give a dataset that is ready an index that was read anew, unless somebody else was quicker."""
    is_it = (DatasetRow.name == name) & (DatasetRow.index_digest == instead_of)
    statement = update(DatasetRow).where(is_it, DatasetRow.state == "ready").values(index_digest=digest)
    tx.execute(statement, execution_options={"synchronize_session": False})


def delete(tx: Session, name: str, *, made_at: datetime | None = None) -> Dataset:
    """Delete the row, if it is the one that was made then, and return it. Raises NotFound, DatasetInUse.

    Its blobs may be shared: ask ``references.unused`` which of them may go, after the commit.
    """
    if not is_name(name):
        raise _unknown(name)
    query = select(*COLUMNS).where(_is(name, made_at)).with_for_update()
    row = tx.execute(query).one_or_none()
    if row is None:
        raise _unknown(name)
    _require_unused(tx, name)
    tx.execute(sql_delete(DatasetRow).where(_is(name, made_at)))
    return _read(row)


def fail_silent(tx: Session, *, silent_s: float) -> list[str]:
    """Mark ingestions ``failed`` that gave no sign of life for so long: their process is gone."""
    error = {
        "code": SILENT,
        "message": "The server stopped during the ingestion; upload it again.",
    }
    statement = (
        update(DatasetRow)
        .where(DatasetRow.state == "ingesting", DatasetRow.touched_at < now(-silent_s))
        .values(state="failed", error=error, progress=None)
        .returning(DatasetRow.name)
    )
    return list(tx.scalars(statement, execution_options={"synchronize_session": False}))


def _is(name: str, made_at: datetime | None) -> ColumnElement[bool]:
    """The dataset of this name; with ``made_at`` only if it is still that one."""
    same = DatasetRow.name == name
    return same if made_at is None else same & (DatasetRow.created_at == made_at)


def _read(row: AnyRow) -> Dataset:
    return Dataset(**row._mapping)


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no uploaded dataset {name!r}; look at the list of datasets.")


def _refuse(tx: Session, name: str) -> Dataset:
    found = get(tx, name)
    if found is None:
        raise _unknown(name)
    if found.state == "ingesting":
        raise StateConflict(f"The dataset {name} is another one by now.")
    raise StateConflict(f"The dataset {name} is {found.state}, no longer ingesting.")


def _require_unused(tx: Session, name: str) -> None:
    needs = select(JobRow.id).where(JobRow.dataset == name, JobRow.state.in_(("queued", "running"))).limit(1)
    job_id = tx.execute(needs).scalar_one_or_none()
    if job_id is not None:
        raise DatasetInUse(f"The job {job_id} needs the dataset; cancel it or wait until it has ended.")
