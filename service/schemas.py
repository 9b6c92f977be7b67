"""Bodies of requests. Every string, list and number is bounded; unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from nidim.spec import Name, TrainSpec

MAX_SEED = 2**63 - 1
MAX_COUNT = 2**53
MAX_DIM = 65_536
MAX_ROWS = 1_000_000
MAX_IMAGE_TEXT = 90 * 1024 * 1024
"""Characters of one image as base64; the body limit is reached first."""

Id = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=65_536)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Finite = Annotated[float, Field(ge=-1e308, le=1e308, allow_inf_nan=False)]
Ref = Annotated[str, Field(min_length=1, max_length=127, description="enc_…, name, name@3 or name:alias")]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Vector = Annotated[list[Finite], Field(min_length=1, max_length=MAX_DIM)]
ImageText = Annotated[str, Field(max_length=MAX_IMAGE_TEXT)]
Priority = Literal["low", "normal", "high"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
KeyScope = Literal["read", "train", "embed", "admin"]


class Body(BaseModel):
    """A request body: closed, and a string is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _not_digits(alias: str) -> str:
    if alias.isdecimal():
        raise ValueError("an alias is not all digits: it would look like a version")
    return alias


Alias = Annotated[Name, AfterValidator(_not_digits)]


class JobIn(BaseModel):
    """What to train, and the name under which the encoder is registered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: TrainSpec
    encoder: Name
    priority: Priority = "normal"


class AliasIn(Body):
    """Where an alias shall point."""

    version: int = Field(ge=1, le=999_999_999)


class ImagesIn(Body):
    """Image files as base64."""

    images: list[ImageText] = Field(max_length=MAX_ROWS)


class EmbeddingsIn(Body):
    """Rows to score."""

    embeddings: list[Vector] = Field(max_length=MAX_ROWS)


class OpenAIEmbeddingsIn(BaseModel):
    """The request of OpenAI's embeddings endpoint, images as data URIs."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model: Ref
    input: ImageText | Annotated[list[ImageText], Field(max_length=MAX_ROWS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=MAX_DIM, description="if given, it must be the encoder's d")


class SampleIn(Body):
    """Rows [offset, offset + n) of the stream ``seed``."""

    n: int = Field(ge=0, le=MAX_COUNT)
    seed: Seed = 0
    offset: int = Field(0, ge=0, le=MAX_SEED)
    temperature: float = Field(1.0, ge=0, le=100, description="factor of the normal scores")


class InterpolateIn(Body):
    """A way from ``a`` to ``b``."""

    a: Vector
    b: Vector
    steps: int = Field(8, ge=2, le=10_000)


class KeyIn(Body):
    """A key to create."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x20-\x7e]+$")]
    scopes: list[KeyScope] = Field(min_length=1, max_length=4)
    expires_at: AwareDatetime | None = None
