"""What the API does with jobs: create, read, cancel, retry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session

from nidim import FORMAT_VERSION
from service.errors import StateConflict
from service.store import datasets, events
from service.store.clock import is_past, now
from service.store.ids import is_id, new_id
from service.store.jobs import rows
from service.store.jobs.brief import spec_of_list
from service.store.jobs.values import PRIORITIES, TERMINAL, Head, Job
from service.store.paging import Keyset, Page
from service.store.tables import JobRow

NEWEST_FIRST = Keyset(JobRow.created_at, JobRow.id)
CANCEL = {"cancel_requested": True}
NEW = insert(rows.JOBS).values(created_at=now()).returning(*rows.COLUMNS)
WAITING = select(func.count()).select_from(rows.JOBS).where(rows.JOBS.c.state == "queued")
WAITING_OF_ONE = WAITING.where(rows.JOBS.c.created_by == bindparam("creator"))
PUBLISHED = (
    update(rows.JOBS)
    .where(rows.JOBS.c.id.in_(bindparam("job_ids", expanding=True)), rows.JOBS.c.state == "queued")
    .values(published_at=now(), publish_count=rows.JOBS.c.publish_count + 1)
)
HEADS_AT_ONCE = 500


def create(
    tx: Session,
    *,
    kind: str,
    spec: dict[str, Any],
    resolved: dict[str, Any],
    warnings: Sequence[dict[str, Any]],
    encoder: str,
    priority: str,
    source: str | None = None,
    retry_of: str | None = None,
    checkpoint_digest: str | None = None,
    checkpoint_step: int | None = None,
    origin: Mapping[str, str] | None = None,
    created_by: str | None = None,
    held: bool = False,
) -> Job:
    """Write a queued job and its first event; until the job ends, nobody can delete ``spec["dataset"]`` or ``source``.

    ``source``: the id of an encoder that is locked, see ``encoders.hold``. ``held``: so is the dataset already
    (``datasets.hold``), or it is one that nobody can delete.
    """
    if priority not in PRIORITIES:
        raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {priority!r}")
    dataset = spec.get("dataset")
    if dataset is not None and not held:
        datasets.hold(tx, dataset)
    values = {
        "id": new_id("job_"),
        "kind": kind,
        "state": "queued",
        "encoder": encoder,
        "dataset": dataset,
        "source": source,
        "priority": priority,
        "retry_of": retry_of,
        "spec": spec,
        "resolved": resolved,
        "warnings": list(warnings),
        "checkpoint_digest": checkpoint_digest,
        "checkpoint_step": checkpoint_step,
        "last_event_id": 1,
        "format_version": FORMAT_VERSION,
        "created_by": created_by,
    }
    return rows.write_state(tx, Job.from_row(tx.execute(NEW, values).one()), origin)


def get(tx: Session, job_id: str) -> Job | None:
    """The job with this id; None for any other string."""
    return rows.read(tx, job_id)


def list_(tx: Session, *, state: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[Job]:
    """Jobs, newest first, of one state or all, their specs without long lists of points. Raises BadCursor."""
    query = select(*(column for column in rows.COLUMNS if column.key != "spec"), spec_of_list(tx))
    if state is not None:
        query = query.where(JobRow.state == state)
    return NEWEST_FIRST.page(tx, query, Job.from_row, limit=limit, cursor=cursor)


def heads(tx: Session, job_ids: Sequence[str]) -> Iterator[Head]:
    """How far these jobs have come, those that exist: a few columns by primary key, for all followers of streams."""
    columns = (JobRow.id, JobRow.state, JobRow.last_event_id)
    wanted = [job_id for job_id in job_ids if is_id("job_", job_id)]
    for start in range(0, len(wanted), HEADS_AT_ONCE):
        query = select(*columns).where(JobRow.id.in_(wanted[start : start + HEADS_AT_ONCE]))
        for job_id, state, last_event_id in tx.execute(query).all():
            yield Head(id=job_id, last_event_id=last_event_id, ended=state in TERMINAL)


def count_waiting(tx: Session, *, created_by: str | None = None) -> int:
    """How many jobs are queued, of one creator or all."""
    if created_by is None:
        return tx.execute(WAITING).scalar_one()
    return tx.execute(WAITING_OF_ONE, {"creator": created_by}).scalar_one()


def request_cancel(tx: Session, job_id: str) -> Job:
    """Cancel at once where nobody works on the job (queued, or its lease ran out), else flag it for its worker.

    A flagged job ends cancelled, whatever the worker reports then; one that is cancelled already stays so. Raises
    NotFound, and StateConflict if it ended otherwise.
    """
    job = rows.locked(tx, job_id)
    if job.state == "cancelled":
        return job
    nobody_works = or_(JobRow.state == "queued", is_past(JobRow.lease_until))
    ended = rows.change(tx, job_id, [rows.is_live(), nobody_works], rows.ended(state="cancelled") | CANCEL)
    if ended is not None:
        return rows.write_state(tx, ended)
    flagged = rows.change(tx, job_id, [rows.is_live()], CANCEL)
    if flagged is not None:
        return flagged
    raise StateConflict(f"The job has {job.state} already; it can no longer be cancelled.")


def retry(
    tx: Session,
    job_id: str,
    *,
    created_by: str | None = None,
    origin: Mapping[str, str] | None = None,
) -> Job:
    """A new queued job that starts from the last checkpoint of a failed or cancelled one.

    Raises NotFound, and StateConflict for a job in another state.
    """
    job = rows.locked(tx, job_id)
    if job.state not in ("failed", "cancelled"):
        so_far = "has succeeded" if job.state == "succeeded" else f"is {job.state}"
        raise StateConflict(f"The job {so_far}; only a failed or cancelled one can be retried.")
    return create(
        tx,
        kind=job.kind,
        spec=job.spec,
        resolved=job.resolved,
        warnings=_submitted_warnings(tx, job),
        encoder=job.encoder,
        source=job.source,
        priority=job.priority,
        retry_of=job.id,
        checkpoint_digest=job.checkpoint_digest,
        checkpoint_step=job.checkpoint_step,
        origin=origin,
        created_by=created_by,
    )


def mark_published(tx: Session, job_ids: Sequence[str]) -> None:
    """Note that the broker has taken these ids, so that the reaper does not publish them again at once."""
    tx.execute(PUBLISHED, {"job_ids": list(job_ids)})


def _submitted_warnings(tx: Session, job: Job) -> list[dict[str, Any]]:
    """The warnings that came with the spec; those of the running job have an event each."""
    reported = [event.data for event in events.list_of_type(tx, job.id, events.WARNING)]
    return [warning for warning in job.warnings if warning not in reported]
