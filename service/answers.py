"""Answers of the API, for its description: the routes write them without going through these models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from service.schemas import Count, Finite, Id, JobState, KeyScope, Priority, Text, Vector

T = TypeVar("T")


class Answer(BaseModel):
    """An answer, described; further fields may come."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ListOut(Answer, Generic[T]):
    """One page of a list, newest first."""

    items: Annotated[list[T], Field(max_length=10_000)]
    next_cursor: Annotated[str, Field(max_length=512)] | None


class ProblemPlace(Answer):
    """One place that is to blame."""

    pointer: Text = Field(description="JSON pointer into the body; empty: all of it, or no body at all")
    detail: Text
    parameter: Text | None = Field(None, description="a query parameter or header instead of the body")


class Problem(Answer):
    """RFC 9457 problem details."""

    type: Text
    title: Text
    status: int = Field(ge=400, le=599)
    detail: Text
    code: Id = Field(description="stable, for programs")
    request_id: Annotated[str, Field(max_length=128)]
    errors: Annotated[list[ProblemPlace], Field(max_length=10_000)] | None = None


class ImageShape(Answer):
    """Of the images of a dataset."""

    height: Count
    width: Count
    channels: Literal[1, 3]


class Splits(Answer):
    """Images in each split."""

    train: Count
    test: Count


class SkippedMember(Answer):
    """A member that could not be used."""

    member: Text
    reason: Text


class Skipped(Answer):
    """What could not be used of an upload."""

    count: Count
    first: Annotated[list[SkippedMember], Field(max_length=100)]


class DatasetOut(Answer):
    """A dataset."""

    name: Id
    kind: Literal["builtin", "uploaded"]
    available: bool
    state: Literal["ready", "ingesting", "failed"]
    items: Count
    classes: Annotated[list[Text], Field(max_length=10_000)]
    image: ImageShape | None
    splits: Splits | None
    license: Text | None
    digest: Text | None
    skipped: Skipped | None = None
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    created_by: Id | None = None
    created_at: datetime | None = None


class LabelsOut(Answer):
    """What images of a split are of; ``total`` is the images in the split."""

    dataset: Id
    split: Literal["train", "test"]
    offset: Count
    total: Count
    labels: Annotated[list[Count | None], Field(max_length=1000)] = Field(
        description="indices into the dataset's classes; null where there is no label"
    )


class JobOut(Answer):
    """A job."""

    id: Id
    kind: Id
    state: JobState
    attempt: Count
    retry_of: Id | None
    spec: dict[str, Any]
    resolved: dict[str, Any]
    encoder: Id | None = Field(description="the name of the encoder that it trains")
    generator: Id | None = Field(description="the name of the generator that it trains")
    priority: Priority
    progress: dict[str, Any] | None
    metrics: dict[str, Any]
    result: dict[str, Any] | None
    failure: dict[str, Any] | None
    warnings: Annotated[list[dict[str, Any]], Field(max_length=10_000)]
    cancel_requested: bool
    created_by: Id | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class CheckOut(Answer):
    """What a job of a spec would be."""

    spec: dict[str, Any]
    resolved: dict[str, Any]
    warnings: Annotated[list[dict[str, Any]], Field(max_length=10_000)]
    memory_bytes: Count | None = Field(description="that the training takes, estimated; null for a generator")


class EventOut(Answer):
    """Something that happened to a job."""

    id: Count
    type: Literal["state", "progress", "metric", "checkpoint", "log", "warning"]
    at: datetime
    data: dict[str, Any]


class DamageOut(Answer):
    """Why an encoder cannot be loaded: which file is gone or is not what was stored."""

    code: Id
    file: Id | None
    detail: Text
    found_at: datetime


class EncoderOut(Answer):
    """One version of an encoder."""

    id: Id
    name: Id
    version: Count
    aliases: Annotated[list[Id], Field(max_length=10_000)]
    dim: Count
    prior: dict[str, Any]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    digest: Text
    size_bytes: Count
    job_id: Id
    state: Literal["ready", "degraded"]
    degraded: DamageOut | None
    report: dict[str, Any]
    created_at: datetime


class GeneratorOut(EncoderOut):
    """One version of a generator; ``prior`` is the law that it is fed from."""

    source: Annotated[str, Field(max_length=127)] = Field(description="the encoder that it was trained with")


class FileOut(Answer):
    """One file of an encoder."""

    name: Id
    size: Count
    digest: Text
    media_type: Id


class AliasOut(Answer):
    """Where an alias points; ``etag`` is that of the header, for If-Match."""

    name: Id
    alias: Id
    version: Count
    etag: Annotated[str, Field(max_length=64)]
    updated_at: datetime


class AliasMoveOut(Answer):
    """One entry of an alias' history; version null: it was deleted. ``etag`` is what the alias had from then on."""

    version: Count | None
    etag: Annotated[str, Field(max_length=64)]
    at: datetime


class EmbeddingsOut(Answer):
    """One row an image, in order; null where an image was bad and on_error=null."""

    encoder: Annotated[str, Field(max_length=80)]
    dim: Count
    embeddings: Annotated[list[Vector | None], Field(max_length=1_000_000)]


class OpenAIUsage(Answer):
    """Images instead of tokens."""

    prompt_tokens: Count
    total_tokens: Count


class OpenAIEmbedding(Answer):
    """One image's embedding, as numbers or as little-endian float32 in base64."""

    object: Literal["embedding"]
    index: Count
    embedding: Vector | Text


class OpenAIEmbeddingsOut(Answer):
    """The answer of OpenAI's embeddings endpoint."""

    object: Literal["list"]
    data: Annotated[list[OpenAIEmbedding], Field(max_length=1_000_000)]
    model: Annotated[str, Field(max_length=80)]
    usage: OpenAIUsage


class SamplesOut(Answer):
    """Draws from the prior."""

    encoder: Annotated[str, Field(max_length=80)]
    dim: Count
    samples: Annotated[list[Vector], Field(max_length=1_000_000)]


class ScoresOut(Answer):
    """One value an embedding: log p in nats (null: −∞), P(χ²_d ≥ ‖s‖²), and its rank among held-out images.

    ``p_conformal`` is valid for the encoder as it is; null where it is older than that figure.
    """

    encoder: Annotated[str, Field(max_length=80)]
    log_prob: Annotated[list[Finite | None], Field(max_length=1_000_000)]
    p_value: Annotated[list[Finite | None], Field(max_length=1_000_000)]
    p_conformal: Annotated[list[Finite], Field(max_length=1_000_000)] | None


class DriftShift(Answer):
    """Means of a group of features over recent images, in deviations under the prior."""

    from_prior: Finite = Field(description="distance from the prior")
    heldout: Finite = Field(description="the same of held-out images")
    beyond: Finite = Field(description="distance from what is tolerated; 0: within")
    chance: Finite = Field(description="what as many draws of the prior would show")


class DriftWorst(Answer):
    """The coordinate that is farthest from where held-out images were."""

    coordinate: Count
    statistic: Literal["location", "scale"]
    value: Finite
    heldout: Finite
    z: Finite = Field(description="distance from between the prior and the held-out mean, in standard errors")


class DriftEvidence(Answer):
    """Of all images since the reset, valid at any time."""

    log_e: Finite = Field(description="logarithm of the e-value now")
    p_value: Finite = Field(description="1 / the largest e-value so far")


class DriftDetector(Answer):
    """What raises the alarm."""

    log_ratio: Finite | None = Field(description="logarithm of the detector over its threshold; alarm from 0")
    false_alarms_per_day: Finite = Field(description="that the threshold allows, at most")


class DriftTolerance(Answer):
    """What is tolerated: the way from the prior to the held-out means, and ``radius`` around it."""

    n: Count = Field(description="held-out images")
    confidence: Finite
    radius: dict[str, Finite]


class DriftOut(Answer):
    """The images that an encoder version embedded, against its prior; ``alarm`` null: no tolerance is known."""

    encoder: Annotated[str, Field(max_length=80)]
    since: datetime | None = Field(description="when the first image came after the reset")
    updated_at: datetime | None
    n: Count = Field(description="images, or requests, watched since the reset")
    unit: Literal["image", "request"]
    recent_n: Finite = Field(description="images that the recent means are worth")
    statistic: dict[str, DriftShift]
    worst: DriftWorst | None
    evidence: DriftEvidence
    detector: DriftDetector
    alarm: bool | None
    alarm_at: datetime | None
    tolerance: DriftTolerance | None
    enabled: bool
    note: Text | None


class PointsOut(Answer):
    """The points of a way, both ends included."""

    encoder: Annotated[str, Field(max_length=80)]
    dim: Count
    points: Annotated[list[Vector], Field(max_length=10_000)]


class KeyOut(Answer):
    """A key without its secret."""

    id: Id
    name: Annotated[str, Field(max_length=100)]
    prefix: Id
    scopes: Annotated[list[KeyScope], Field(max_length=4)]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKeyOut(KeyOut):
    """A new key; its secret is shown this once."""

    key: Annotated[str, Field(max_length=200)]


class AuditOut(Answer):
    """One change: who made it (a key's id, open, cli, worker or retention), to what, by which request."""

    id: Id
    at: datetime
    who: Id
    action: Id
    target: Text
    request_id: Annotated[str, Field(max_length=128)] | None
    detail: dict[str, Any] | None


class HealthOut(Answer):
    """The process is alive."""

    status: Literal["ok"]
    version: Id


class ReadyOut(Answer):
    """Ready to serve, and what is degraded meanwhile."""

    status: Literal["ready", "not_ready"]
    degraded: Annotated[list[Text], Field(max_length=10_000)]
