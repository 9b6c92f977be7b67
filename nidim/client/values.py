"""What the server says of its things: frozen values. Fields that a newer server adds are kept as they come."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Priority = Literal["low", "normal", "high"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")


class Value(BaseModel):
    """Anything that an answer holds."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def as_json(self) -> dict[str, Any]:
        """As it came, for programs."""
        return self.model_dump(mode="json")


class Progress(Value):
    """How far a training is; None where it is not known yet."""

    step: int = 0
    steps: int | None = None
    epoch: int = 0
    epochs: int | None = None
    images_per_s: float | None = None
    eta_s: float | None = None


class Result(Value):
    """The encoder or generator that a job became."""

    name: str
    version: int
    id: str


class Failure(Value):
    """Why a job failed."""

    code: str
    message: str


class Advice(Value):
    """A warning about a job."""

    code: str
    detail: str


class JobInfo(Value):
    """A job as it was when it was read."""

    id: str
    kind: str
    state: JobState
    attempt: int
    retry_of: str | None
    spec: dict[str, Any]
    resolved: dict[str, Any]
    encoder: str | None = None
    generator: str | None = None
    priority: Priority
    progress: Progress | None
    metrics: dict[str, Any]
    result: Result | None
    failure: Failure | None
    warnings: tuple[Advice, ...]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Event(Value):
    """Something that happened to a job; ids rise."""

    id: int
    type: str
    at: datetime
    data: dict[str, Any]

    @property
    def ends(self) -> bool:
        """Whether it is the last one of its job."""
        return self.type == "state" and self.data.get("state") in ENDED


class EncoderInfo(Value):
    """One version of an encoder; ``report`` holds its key figures."""

    id: str
    name: str
    version: int
    aliases: tuple[str, ...]
    dim: int
    prior: dict[str, Any]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    digest: str
    size_bytes: int
    job_id: str
    report: dict[str, Any]
    created_at: datetime


class GeneratorInfo(EncoderInfo):
    """One version of a generator; ``prior`` is the law that it is fed from."""

    source: str


class FileInfo(Value):
    """One file of an encoder or a generator."""

    name: str
    size: int
    digest: str
    media_type: str


class AliasInfo(Value):
    """Where an alias points; with ``etag`` as ``if_match`` it is moved or deleted only while it does."""

    name: str
    alias: str
    version: int
    etag: str
    updated_at: datetime


class DriftInfo(Value):
    """The images that an encoder version embedded, against its prior; ``alarm`` None: no tolerance is known."""

    encoder: str
    since: datetime | None
    n: int
    unit: Literal["image", "request"]
    alarm: bool | None
    alarm_at: datetime | None
    statistic: dict[str, dict[str, Any]]
    worst: dict[str, Any] | None
    evidence: dict[str, Any]
    detector: dict[str, Any]
    tolerance: dict[str, Any] | None
    enabled: bool
    note: str | None = None


class DatasetInfo(Value):
    """A dataset, built in or uploaded."""

    name: str
    kind: Literal["builtin", "uploaded"]
    available: bool
    state: Literal["ready", "ingesting", "failed"]
    items: int
    classes: tuple[str, ...]
    image: dict[str, int] | None
    splits: dict[str, int] | None
    license: str | None
    digest: str | None
    skipped: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
