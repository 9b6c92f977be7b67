"""The values that jobs are read as: frozen, detached from the transaction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from service.store.names import Kind
from service.store.tables import AnyRow

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
MAKES: dict[str, Kind] = {"train": "encoder", "generator": "generator"}
"""Kind of a job -> what it registers."""
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as the database has it."""

    id: str
    kind: str
    state: str
    encoder: str
    dataset: str | None
    source: str | None
    priority: str
    attempt: int
    attempts_without_checkpoint: int
    retry_of: str | None
    spec: dict[str, Any]
    resolved: dict[str, Any]
    warnings: list[dict[str, Any]]
    progress: dict[str, Any] | None
    metrics: dict[str, Any]
    result: dict[str, Any] | None
    failure: dict[str, Any] | None
    checkpoint_digest: str | None
    checkpoint_step: int | None
    cancel_requested: bool
    lease_owner: str | None
    lease_until: datetime | None
    fence: int
    published_at: datetime | None
    publish_count: int
    last_event_id: int
    format_version: int
    created_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, row: AnyRow) -> Self:
        """The job in a row of the table; columns that are no field are left out."""
        values = row._mapping
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def evolve(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def makes(self) -> Kind:
        """What the job registers, under the name ``encoder``."""
        return MAKES[self.kind]

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended; its state never changes again."""
        return self.state in TERMINAL


@dataclass(frozen=True, kw_only=True)
class Head:
    """How far a job has come; once it has ended, ``last_event_id`` is that of its last event."""

    id: str
    last_event_id: int
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on a job until ``until``, as long as ``fence`` is the job's."""

    job_id: str
    owner: str
    fence: int
    until: datetime
    job: Job = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class HeartbeatAnswer:
    """``alive``: the lease is extended. Not alive: stop, somebody else has the job or it has ended."""

    alive: bool
    cancel_requested: bool
