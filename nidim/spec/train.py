"""TrainSpec: one description of a training, for the API body, the CLI file, the worker and the bundle.

A field that is not given is ``None`` until :meth:`TrainSpec.filled` has put in the defaults for the dataset
and the dimension (``nidim.spec.defaults``). A filled spec stays as it is when filled again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from nidim.spec import laws, matching, parts, views
from nidim.spec.base import Part
from nidim.spec.names import MOST, NAME_PATTERN

LEAST_SIDE, MOST_SIDE = 8, 64
"""Bounds of the default ``image_size``, pixels; larger images are shrunk unless a size is given."""
RESERVED_PREFIXES = ("enc_", "gen_", "job_")
"""Ids start so; names of datasets, encoders, generators and aliases never do."""


def _not_an_id(name: str) -> str:
    if name.startswith(RESERVED_PREFIXES):
        raise ValueError(f"a name never starts with {', '.join(RESERVED_PREFIXES)}: those are ids")
    return name


Name = Annotated[str, StringConstraints(max_length=MOST, pattern=NAME_PATTERN), AfterValidator(_not_an_id)]


class DatasetFacts(Part):
    """What the defaults and the physics need to know of a dataset; counts of images, sizes in pixels."""

    name: str = Field(max_length=63)
    n_train: int = Field(ge=0)
    n_test: int = Field(ge=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: Literal[1, 3]
    classes: int = Field(0, ge=0, description="0: no labels")


class TrainSpec(Part):
    """A complete description of one training; everything but ``dataset`` has a default."""

    format_version: Literal[1] = 1
    kind: Literal["train"] = "train"
    dataset: Name = Field(description="a built-in or an uploaded dataset")
    image_size: Annotated[int, Field(ge=1, le=512)] | None = Field(
        None,
        description="side of the square that the encoder sees, pixels; default: the shorter side of the images (where "
        f"sizes differ, the median of their shorter sides), at least {LEAST_SIDE} and at most {MOST_SIDE}",
    )
    encoder: parts.Encoder | None = Field(None, description="the network and d")
    method: parts.Method | None = Field(None, description="how views, noise, head and objective are wired")
    objective: parts.Objective | None = Field(None, description="lower bound on the mutual information")
    critic: parts.Critic | None = Field(None, description="how pairs are scored")
    head: parts.Head | None = Field(None, description="projection after the noise")
    noise: matching.Noise | None = Field(None, description="Z, added to the normalised embedding in training")
    prior: laws.PriorSpec | None = Field(None, description="the law that the embeddings follow")
    normalization: matching.Normalization | None = Field(
        None, description="follows from noise and prior; if given, it must agree"
    )
    regularizer: matching.Regularizer | None = Field(None, description="a term beside the objective")
    augmentation: views.Augmentation | None = Field(None, description="how a view is made from an image")
    optimizer: parts.Optimizer | None = Field(None)
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="passes over the images")
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | None = Field(None, description="images a step")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the forward pass; auto: bfloat16 where a measurement at the start says it pays (a CPU without "
        "instructions for it takes several times as long with it)",
    )
    evaluation: Literal["full", "quick"] = Field(
        "full", description="quick: fewer subsamples and slices, no MLP probe; seconds instead of minutes"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the weights, the order, the views and the noise")
    devices: int = Field(
        1, ge=1, le=1, description="a job trains on one; nidim train takes several by torchrun"
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        from nidim.spec.rules import contradiction

        if problem := contradiction(self):
            field, advice = problem
            raise PydanticCustomError(
                "contradiction", "{field}: {advice}", {"field": field, "advice": advice}
            )
        return self

    def filled(self, facts: DatasetFacts) -> FullSpec:
        """This spec with the defaults for ``facts`` in every field that was not given.

        Raises ``pydantic.ValidationError`` when a given field contradicts a default that depends on it.
        """
        from nidim.spec.defaults import defaults

        given = {k: v for k, v in self if v is not None}
        return FullSpec.model_validate({**defaults(self, facts), **given})

    def stored(self) -> Self:
        """This spec as it is kept with an encoder: the points of a flow by their digest."""
        if self.prior is None or self.prior.kind != "flow":
            return self
        return self.model_copy(update={"prior": self.prior.stored()})

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of ``stored``, ``sha256:`` and 64 hexadecimal digits."""
        text = json.dumps(self.stored().model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class FullSpec(TrainSpec):
    """A spec with every default in place; only what its method does not use is None."""

    image_size: Annotated[int, Field(ge=1, le=512)]
    encoder: parts.Encoder
    method: parts.Method
    head: parts.Head
    noise: matching.Noise
    prior: laws.PriorSpec
    normalization: matching.Normalization
    regularizer: matching.Regularizer
    augmentation: views.Augmentation
    optimizer: parts.Optimizer
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
