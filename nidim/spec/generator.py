"""GeneratorSpec: a model that turns embeddings of a trained encoder into images, fed from the encoder's known prior.

A field that is not given is ``None`` until :meth:`GeneratorSpec.filled` has put in the defaults for the encoder and
the dataset. :func:`resolve_generator` says what that means in steps and sizes. No torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from nidim.errors import SpecError
from nidim.spec import parts
from nidim.spec.base import Part
from nidim.spec.defaults import default_sigma
from nidim.spec.names import ENCODER_PATTERN
from nidim.spec.train import DatasetFacts, Name

LARGEST_IMAGE = 64
"""Pixels a side: what these networks are meant for."""
IMAGES_SEEN = {"flow_matching": 400_000, "gan": 600_000}
"""A default training shows about as many images; small sets get more epochs, large ones fewer."""
MOST_EPOCHS = 400

SourceRef = Annotated[str, StringConstraints(max_length=127, pattern=ENCODER_PATTERN)]


class FlowMatchingModel(Part):
    """Conditional flow matching: a U-Net learns the velocity that carries noise to images along straight lines.

    Lipman et al. 2023; Liu et al. 2023 (rectified flow).
    """

    kind: Literal["flow_matching"] = "flow_matching"
    width: int = Field(32, ge=8, le=512, description="channels at the finest resolution; twice that below")
    depth: int = Field(1, ge=1, le=8, description="residual blocks a resolution, on the way down and up each")
    steps: int = Field(12, ge=1, le=1000, description="steps of Heun's method from noise to image")


class GANModel(Part):
    """A conditional GAN whose discriminator compares by projection (Miyato & Koyama 2018), with the hinge loss."""

    kind: Literal["gan"] = "gan"
    width: int = Field(32, ge=8, le=512, description="channels at the finest resolution; twice that below")
    noise: int = Field(32, ge=1, le=1024, description="values of noise an image, beside the embedding")


GeneratorModel = Annotated[FlowMatchingModel | GANModel, Field(discriminator="kind")]


class SourceFacts(Part):
    """What a generator needs to know of its encoder: d, and the images that it takes; sizes in pixels."""

    dataset: Name
    dim: int = Field(ge=1)
    image_size: int = Field(ge=1)
    channels: Literal[1, 3]
    sigma: float | None = Field(None, description="of its noise, if that is Gaussian")


class GeneratorSpec(Part):
    """A complete description of the training of one generator; everything but ``source`` has a default."""

    format_version: Literal[1] = 1
    kind: Literal["generator"]
    source: SourceRef = Field(description="the encoder: enc_…, name, name@3 or name:alias")
    dataset: Name | None = Field(None, description="images to learn from; default: those of the encoder")
    model: GeneratorModel | None = Field(None, description="how an embedding becomes an image")
    condition_noise: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="σ of the N(0, σ²I) that is added to the normal scores of an embedding before it is turned into an "
        "image, in training and afterwards; default: that of the encoder, whose certificate speaks of just this law",
    )
    optimizer: parts.Optimizer | None = Field(None)
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="passes over the images")
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | None = Field(None, description="images a step")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the networks; auto: bfloat16 where a measurement at the start says it pays (a CPU without "
        "instructions for it takes several times as long with it)",
    )
    evaluation: Literal["full", "quick"] = Field(
        "full", description="quick: fewer images and one draw; seconds instead of minutes"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the weights, the order and the noise")

    def filled(self, source: SourceFacts, facts: DatasetFacts) -> FullGeneratorSpec:
        """This spec with a default in every field that was not given.

        Raises SpecError where images and encoder do not go together.
        """
        if facts.channels != source.channels:
            raise SpecError(
                f"The encoder takes images of {source.channels} channels, {facts.name} has {facts.channels}.",
                pointer="/dataset",
            )
        if source.image_size > LARGEST_IMAGE:
            raise SpecError(
                f"The encoder takes images of {source.image_size} pixels a side; generators make at most "
                f"{LARGEST_IMAGE}. Train an encoder with image_size={LARGEST_IMAGE}.",
                pointer="/source",
            )
        model = self.model or FlowMatchingModel()
        defaults = {
            "dataset": facts.name,
            "model": model,
            "condition_noise": source.sigma or default_sigma(source.dim),
            "optimizer": _optimizer(model),
            "epochs": min(max(round(IMAGES_SEEN[model.kind] / max(facts.n_train, 1)), 4), MOST_EPOCHS),
            "batch_size": int(min(256, max(2, 2 ** (max(facts.n_train, 2).bit_length() - 4)))),
        }
        given = {k: v for k, v in self if v is not None}
        return FullGeneratorSpec.model_validate({**defaults, **given})

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, ``sha256:`` and 64 hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class FullGeneratorSpec(GeneratorSpec):
    """A spec with every default in place."""

    dataset: Name
    model: GeneratorModel
    condition_noise: Annotated[float, Field(ge=0, le=10)]
    optimizer: parts.Optimizer
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]


class ResolvedGenerator(Part):
    """What a spec means in sizes, known at submit time; then what was chosen when the training started."""

    image_size: int = Field(ge=1)
    channels: Literal[1, 3]
    dim: int = Field(ge=1, description="d of the embeddings that it is fed")
    n_train: int
    n_heldout: int
    batch_size: int = Field(description="effective: never above the training images")
    steps_per_epoch: int

    device: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    channels_last: bool | None = None
    threads: int | None = None


LEAST_HELDOUT = 8
"""Held-out images, below which there is nothing to measure a generator with."""


def resolve_generator(spec: FullGeneratorSpec, source: SourceFacts, facts: DatasetFacts) -> ResolvedGenerator:
    """Sizes and steps of a filled spec. Raises SpecError for too few training or held-out images."""
    if facts.n_train < 2:
        raise SpecError(
            f"{facts.name} has too few training images, {facts.n_train}; at least 2 are needed.",
            pointer="/dataset",
        )
    if facts.n_test < LEAST_HELDOUT:
        raise SpecError(
            f"{facts.name} has {facts.n_test} held-out images; a generator is measured with at least "
            f"{LEAST_HELDOUT}: bring about {10 * LEAST_HELDOUT} images, or a folder test with {LEAST_HELDOUT}.",
            pointer="/dataset",
        )
    batch = min(spec.batch_size, facts.n_train)
    return ResolvedGenerator(
        image_size=source.image_size,
        channels=source.channels,
        dim=source.dim,
        n_train=facts.n_train,
        n_heldout=facts.n_test,
        batch_size=batch,
        steps_per_epoch=facts.n_train // batch,
    )


def noise_values(model: GeneratorModel, resolved: ResolvedGenerator) -> int:
    """How many numbers of N(0, 1) an image takes: those of the condition, then those of the image."""
    own = model.noise if model.kind == "gan" else resolved.image_size**2 * resolved.channels
    return resolved.dim + own


def _optimizer(model: GeneratorModel) -> parts.Optimizer:
    if model.kind == "gan":
        return parts.AdamWOptimizer(lr=1e-3, weight_decay=0.0, schedule="cosine")
    return parts.AdamWOptimizer(lr=3e-3, weight_decay=1e-4)
