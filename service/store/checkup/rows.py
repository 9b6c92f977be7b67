"""The database itself: its file, jobs that nobody looks after, uploads that died, keys without their pepper."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator

from sqlalchemy import func, select, update
from sqlalchemy.exc import DatabaseError

from service.store import datasets, jobs
from service.store.checkup.findings import Case, Patient, problem
from service.store.clock import now
from service.store.retention import INGESTION_SILENT_S
from service.store.store import Store
from service.store.tables import DatasetRow, EncoderNameRow, EncoderRow, JobRow, KeyRow

LEASES = 2
"""A reaper that is alive needs less than one lease more to see that a lease ran out."""


def unreadable(error: DatabaseError) -> Case | None:
    """The finding, where SQLite cannot read its file at all; None: something else is the matter."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if not isinstance(code, int) or code & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return None
    return _damaged(str(error.orig))


def _damaged(said: str) -> Case:
    says = f"SQLite finds the file damaged ({said[:200]}); stop the server and restore a backup."
    return Case(problem("database_damaged", "nidim.db", says))


def database(patient: Patient) -> Iterator[Case]:
    """Whether SQLite's file is sound; PostgreSQL sees to that itself."""
    engine = patient.store.engine
    if engine.dialect.name == "sqlite":
        check = "integrity_check" if patient.deep else "quick_check"
        with patient.store.session() as tx:
            connection = tx.connection()
            said = str(connection.exec_driver_sql(f"PRAGMA {check}(1)").scalar())
            dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if said != "ok":
            yield _damaged(said)
        if dangling is not None:
            says = f"Rows of {dangling[0]} refer to rows that are gone; restore a backup."
            yield Case(problem("database_dangling", "nidim.db", says))
    yield from _counters(patient.store)


def jobs_and_datasets(patient: Patient) -> Iterator[Case]:
    """Jobs whose worker is gone without anybody noticing, and uploads whose process is."""
    with patient.store.session() as tx:
        overdue = JobRow.lease_until < now(-LEASES * patient.settings.lease_s)
        lost = tx.scalars(select(JobRow.id).where(JobRow.state == "running", overdue)).all()
        silent = DatasetRow.touched_at < now(-INGESTION_SILENT_S)
        dead = tx.scalars(select(DatasetRow.name).where(DatasetRow.state == "ingesting", silent)).all()
    for job_id in lost:
        says = (
            "It is running, but its worker gave no sign of life and no server has noticed; start the server, which "
            "queues it again. A repair does the same now."
        )
        yield Case(problem("lease_overdue", job_id, says), functools.partial(_reap, patient))
    for name in dead:
        says = (
            "Its ingestion stopped when its server did. A repair marks it failed; delete it, upload it again."
        )
        yield Case(problem("ingestion_dead", name, says), functools.partial(_fail_silent, patient.store))


def keys(patient: Patient) -> Iterator[Case]:
    """Keys are of use only with the pepper under which they were stored."""
    configured = getattr(patient.settings, "key_pepper", None)
    if configured is not None or (patient.settings.data_dir / "pepper").exists():
        return
    with patient.store.session() as tx:
        count = tx.execute(select(func.count()).select_from(KeyRow)).scalar_one()
    if count:
        says = (
            f"There are {count} API keys and neither a file 'pepper' in data_dir nor NIDIM_KEY_PEPPER: none of them "
            "opens anything. Bring the pepper back, or create new keys."
        )
        yield Case(problem("pepper_missing", "pepper", says))


def _counters(store: Store) -> Iterator[Case]:
    """The counter of a name must not be below its versions: a number would be used again."""
    highest = select(EncoderRow.name, func.max(EncoderRow.version).label("version")).group_by(EncoderRow.name)
    found = highest.subquery()
    query = select(found.c.name, found.c.version).join(EncoderNameRow, EncoderNameRow.name == found.c.name)
    with store.session() as tx:
        behind = tx.execute(query.where(EncoderNameRow.last_version < found.c.version)).all()
    for name, version in behind:
        says = f"Its counter of versions is behind version {version}. A repair sets it."
        yield Case(
            problem("version_counter_behind", name, says), functools.partial(_count_up, store, name, version)
        )


def _count_up(store: Store, name: str, version: int) -> None:
    is_behind = (EncoderNameRow.name == name) & (EncoderNameRow.last_version < version)
    with store.begin() as tx:
        tx.execute(update(EncoderNameRow).where(is_behind).values(last_version=version))


def _reap(patient: Patient) -> None:
    """As the reaper does; what is queued again is published by the next server that starts."""
    with patient.store.begin() as tx:
        jobs.reap(
            tx,
            max_attempts_without_checkpoint=patient.settings.max_attempts_without_checkpoint,
            republish_after_s=patient.settings.republish_after_s,
            lease_s=patient.settings.lease_s,
        )


def _fail_silent(store: Store) -> None:
    with store.begin() as tx:
        datasets.fail_silent(tx, silent_s=INGESTION_SILENT_S)
