"""The tables. Moments are microseconds since 1970 (``clock``); JSON is stored as text and never queried into.

    jobs ──< events                    (job_id, id): ids rise within a job
    jobs ──0..1 encoders               one encoder per job at most, by a unique constraint
    encoder_names ──< encoders ──< encoder_files
                          ├──< aliases ──< alias_moves
                          ├──0..1 damages
                          └──0..1 drifts
    datasets   idempotency   api_keys   audit   singletons

A change here needs a migration in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Row,
    Select,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.store.clock import Moment
from service.store.text import CleanText

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
Json = dict[str, Any]
JsonList = list[Any]
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"


class Base(DeclarativeBase):
    """What all tables share: names of constraints, and which column type a Python type becomes."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - read once by SQLAlchemy
        str: Text(),
        datetime: Moment(),
        Json: JSON(none_as_null=True),
        JsonList: JSON(none_as_null=True),
    }


class JobRow(Base):
    """One job; its lease is (lease_owner, fence) until lease_until.

    ``encoder``: the name under which the result is registered, of a generator as well; ``source``: the id of the
    encoder that a generator is trained with.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease"),
        Index(None, "created_at", "id"),
        Index(None, "state", "created_at", "id"),
        Index(None, "state", "lease_until"),
        Index(None, "dataset", "state"),
        Index(None, "source", "state"),
        Index(None, "checkpoint_digest"),
        Index(None, "created_by", "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    encoder: Mapped[str]
    dataset: Mapped[str | None]
    source: Mapped[str | None]
    priority: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    attempts_without_checkpoint: Mapped[int] = mapped_column(default=0)
    retry_of: Mapped[str | None]
    spec: Mapped[Json]
    resolved: Mapped[Json]
    warnings: Mapped[JsonList]
    progress: Mapped[Json | None]
    metrics: Mapped[Json] = mapped_column(default=dict)
    result: Mapped[Json | None]
    failure: Mapped[Json | None]
    checkpoint_digest: Mapped[str | None]
    checkpoint_step: Mapped[int | None] = mapped_column(BigInteger)
    checkpoint_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    lease_owner: Mapped[str | None] = mapped_column(CleanText)
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    published_at: Mapped[datetime | None]
    publish_count: Mapped[int] = mapped_column(default=0)
    last_event_id: Mapped[int] = mapped_column(BigInteger, default=0)
    format_version: Mapped[int]
    created_by: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EventRow(Base):
    """One event of a job; the job's row hands out the ids."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    type: Mapped[str]
    at: Mapped[datetime]
    data: Mapped[Json]
    format_version: Mapped[int]


class DatasetRow(Base):
    """One uploaded dataset; ``touched_at`` is the last sign of life of its ingestion."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("state IN ('ready', 'ingesting', 'failed')", name="state"),
        Index(None, "created_at", "name"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    items: Mapped[int] = mapped_column(BigInteger, default=0)
    classes: Mapped[JsonList] = mapped_column(default=list)
    image: Mapped[Json | None]
    splits: Mapped[Json | None]
    license: Mapped[str | None] = mapped_column(CleanText)
    digest: Mapped[str | None]
    blob_digest: Mapped[str | None] = mapped_column(index=True)
    index_digest: Mapped[str | None] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    skipped: Mapped[Json | None]
    progress: Mapped[Json | None]
    error: Mapped[Json | None]
    created_by: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime]
    touched_at: Mapped[datetime]


class EncoderNameRow(Base):
    """The counter of versions of a name: it stays when versions are deleted, so numbers are never used again.

    Names of generators are kept with a prefix, see ``names.stored``: a generator and an encoder may share a name.
    """

    __tablename__ = "encoder_names"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_version: Mapped[int]


class EncoderRow(Base):
    """One immutable version of an encoder, or of a generator: what both are is files under a name and a number."""

    __tablename__ = "encoders"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        UniqueConstraint("job_id"),
        Index(None, "kind", "created_at", "id"),
        CheckConstraint("kind IN ('encoder', 'generator')", name="kind"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(ForeignKey("encoder_names.name"))
    version: Mapped[int]
    dim: Mapped[int]
    prior: Mapped[Json]
    spec: Mapped[Json]
    resolved: Mapped[Json]
    report: Mapped[Json]
    summary: Mapped[Json]
    digest: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[str]
    created_at: Mapped[datetime]


class EncoderFileRow(Base):
    """One file of an encoder's bundle."""

    __tablename__ = "encoder_files"

    encoder_id: Mapped[str] = mapped_column(ForeignKey("encoders.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)


class DamageRow(Base):
    """An encoder of which a file is gone or not what was stored, as it was found last."""

    __tablename__ = "damages"

    encoder_id: Mapped[str] = mapped_column(ForeignKey("encoders.id", ondelete="CASCADE"), primary_key=True)
    file: Mapped[str | None]
    detail: Mapped[str]
    found_at: Mapped[datetime]
    checked_at: Mapped[datetime]


class DriftRow(Base):
    """What is known of the images that an encoder embedded since ``since``; ``state`` is nidim.drift's.

    ``n``: observations, images or requests. ``detector_log_days``: the logarithm of the detector in days; none before
    the first image.
    """

    __tablename__ = "drifts"

    encoder_id: Mapped[str] = mapped_column(ForeignKey("encoders.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[Json | None]
    n: Mapped[int] = mapped_column(BigInteger)
    detector_log_days: Mapped[float | None] = mapped_column(Double)
    since: Mapped[datetime]
    updated_at: Mapped[datetime]
    alarm_at: Mapped[datetime | None]


class AliasRow(Base):
    """Where an alias points; the foreign key keeps a version from being deleted under it."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["encoders.name", "encoders.version"]),
        Index(None, "name", "version"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    revision: Mapped[int]
    updated_at: Mapped[datetime]


class AliasMoveRow(Base):
    """One move of an alias; revisions rise per alias, also over deletion. No version: it was deleted."""

    __tablename__ = "alias_moves"

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int | None]
    at: Mapped[datetime]


class IdempotencyRow(Base):
    """A request with an Idempotency-Key; no status: it is still being answered."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(CleanText, primary_key=True)
    scope: Mapped[str] = mapped_column(CleanText, primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    headers: Mapped[Json | None]
    body: Mapped[bytes | None]
    started_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class KeyRow(Base):
    """An API key; ``mac`` is HMAC-SHA256 of the secret under a pepper that is not in the database."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(CleanText)
    prefix: Mapped[str] = mapped_column(index=True)
    mac: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[JsonList]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class AuditRow(Base):
    """One change: who made it (see ``audit.By``), to what, by which request."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at", "id"), Index(None, "who", "at", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    action: Mapped[str]
    target: Mapped[str] = mapped_column(CleanText)
    request_id: Mapped[str | None]
    detail: Mapped[Json | None]


class SingletonRow(Base):
    """Who may do what only one process does, until when."""

    __tablename__ = "singletons"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(CleanText)
    until: Mapped[datetime]
