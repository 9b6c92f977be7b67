"""Bodies of requests. Every string, list and number is bounded; unknown fields are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nidim.spec import Name, TrainSpec
from nidim.spec.generator import GeneratorSpec

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


def _kind(spec: Any) -> str:
    """Of a spec, where none is given an encoder's."""
    return str(spec.get("kind", "train") if isinstance(spec, dict) else getattr(spec, "kind", "train"))


AnySpec = Annotated[
    Annotated[TrainSpec, Tag("train")] | Annotated[GeneratorSpec, Tag("generator")], Discriminator(_kind)
]


class JobIn(BaseModel):
    """What to train, and the name under which the encoder or generator is registered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: AnySpec
    encoder: Name | None = Field(None, description="of an encoder: the name of its next version")
    generator: Name | None = Field(None, description="of a generator: the name of its next version")
    priority: Priority = "normal"

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        wanted, other = (
            ("generator", "encoder") if self.spec.kind == "generator" else ("encoder", "generator")
        )
        if getattr(self, wanted) is None:
            raise PydanticCustomError(
                "contradiction", "the name under which to register it is missing", {"field": wanted}
            )
        if getattr(self, other) is not None:
            raise PydanticCustomError(
                "contradiction",
                f"this spec trains {'a' if wanted == 'generator' else 'an'} {wanted}",
                {"field": other},
            )
        return self

    @property
    def name(self) -> str:
        """Under which the result is registered."""
        name = self.encoder or self.generator
        assert name is not None
        return name


class CheckIn(BaseModel):
    """A spec to look at before it is submitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: AnySpec


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
    encoding_format: Literal["float", "base64"] | None = Field(None, description="default: float")
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


class GenerateIn(Body):
    """Images of n draws of the prior, rows [offset, offset + n) of the stream ``seed``; or of embeddings or images."""

    n: int | None = Field(None, ge=0, le=MAX_COUNT, description="draws of the prior; default: 16")
    embeddings: Annotated[list[Vector], Field(max_length=MAX_ROWS)] | None = Field(
        None, description="to be turned into images"
    )
    images: Annotated[list[ImageText], Field(max_length=MAX_ROWS)] | None = Field(
        None, description="as base64, to be embedded first by the encoder that the generator was trained with"
    )
    seed: Seed = Field(0, description="of the draws and of the noise")
    offset: int = Field(
        0, ge=0, le=MAX_SEED, description="row of the stream from which draws or noise are taken"
    )
    same_noise: bool = Field(
        False,
        description="each image takes the noise of row ``offset``, so that on a walk only the embedding changes",
    )
    temperature: float = Field(1.0, ge=0, le=100, description="factor of the normal scores of draws")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("n", "embeddings", "images") if getattr(self, name) is not None]
        if len(given) > 1:
            raise PydanticCustomError(
                "contradiction", f"give either {' or '.join(given)}, not both", {"field": given[1]}
            )
        if self.temperature != 1.0 and given and given != ["n"]:
            raise PydanticCustomError(
                "contradiction", "only draws of the prior have a temperature", {"field": "temperature"}
            )
        return self


class KeyIn(Body):
    """A key to create."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x20-\x7e]+$")]
    scopes: list[KeyScope] = Field(min_length=1, max_length=4)
    expires_at: AwareDatetime | None = None

    @field_validator("expires_at")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        try:
            return None if moment is None else moment.astimezone(UTC)
        except OverflowError:
            raise PydanticCustomError("moment", "must be within the years 1 to 9999 of UTC") from None
