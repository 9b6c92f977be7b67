"""What makes embeddings follow the law: the noise, the constraint that it needs, a term beside the objective.

Parts of a training spec like those of :mod:`nidim.spec.parts`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nidim.spec.base import Part

LEAST_NOISE = 1e-6
"""Below float32's resolution noise is none, and 1/σ² overflows before σ is zero."""

# ---- noise -------------------------------------------------------------------------------------------------


class GaussianNoise(Part):
    """Z ~ N(0, σ²I)."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: Annotated[float, Field(ge=LEAST_NOISE, le=100)] | Literal["auto"] = Field(
        "auto",
        description='σ in units of the embedding\'s standard deviation, or "auto": '
        "C(d, σ) = .8 log(min(held-out images, batch)), kept within [.05, .75]",
    )
    start: Annotated[float, Field(ge=LEAST_NOISE, le=100)] | None = Field(
        None, description="σ at the first step, from there to sigma on half a cosine; none: sigma throughout"
    )
    branches: Literal["clean", "both"] = Field(
        "clean", description="clean: noise on one branch, as in the paper; both: independent noise on each"
    )
    layers: float = Field(
        0.0,
        ge=0,
        le=100,
        description="σ of more noise after each block of the network, in standard deviations of each channel over the "
        "batch; on the branch that has noise, in training only; capacity and certificate are those of the output's",
    )
    learned: bool = Field(
        False,
        description="each coordinate learns a σ of its own in training; together they carry the capacity of sigma, "
        "each between a quarter and four times its even share; certificate and noise on request are those of sigma",
    )


class UniformNoise(Part):
    """Z ~ U([−ε, ε]^d)."""

    kind: Literal["uniform"] = "uniform"
    epsilon: float = Field(0.1, ge=LEAST_NOISE, le=100, description="ε, half the width of the noise")


class NoNoise(Part):
    """The baseline: plain InfoMax."""

    kind: Literal["none"] = "none"
    certificate_sigma: Annotated[float, Field(ge=LEAST_NOISE, le=100)] | None = Field(
        None,
        description="σ at which the certificate is evaluated, so that the baseline stands beside an encoder",
    )
    certificate_epsilon: Annotated[float, Field(ge=LEAST_NOISE, le=100)] | None = Field(
        None, description="ε of the same for a sigmoid output"
    )


Noise = Annotated[GaussianNoise | UniformNoise | NoNoise, Field(discriminator="kind")]

# ---- normalisation: the constraint on f ----------------------------------------------------------------------


class BatchNormNormalization(Part):
    """Zero mean and unit variance per coordinate: what Gaussian noise needs."""

    kind: Literal["batchnorm"] = "batchnorm"


class SigmoidNormalization(Part):
    """Support [0, 1]^d: what uniform noise needs."""

    kind: Literal["sigmoid"] = "sigmoid"


Normalization = Annotated[BatchNormNormalization | SigmoidNormalization, Field(discriminator="kind")]

# ---- regulariser ----------------------------------------------------------------------------------------------


class NoRegularizer(Part):
    """Nothing beside the objective."""

    kind: Literal["none"] = "none"


KNOTS = 17
"""Of the quadrature over the characteristic function of a slice."""


class SlicedEppsPulley(Part):
    """Epps–Pulley distance of random projections of the clean embeddings to N(0, 1), added to the loss.

    A combination of noise injection with the idea of SIGReg (arXiv 2511.08544), and labelled as such.
    """

    kind: Literal["sliced_epps_pulley"] = "sliced_epps_pulley"
    weight: float = Field(1.0, gt=0, le=1000, description="factor of the term")
    slices: int = Field(64, ge=1, le=4096, description="random directions a step")
    bhep: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="weight of the BHEP distance of the batch beside it: it keeps points apart",
    )


class BHEPDistance(Part):
    """BHEP distance of the clean latents to N(0, I): an MMD in closed form, with the kernel of Henze–Zirkler."""

    kind: Literal["bhep"] = "bhep"
    weight: float = Field(1.0, gt=0, le=1000, description="factor of the term")


class SlicedWasserstein(Part):
    """Wasserstein-2 of random projections of the clean latents to those of prior draws, added to the loss."""

    kind: Literal["sliced_wasserstein"] = "sliced_wasserstein"
    weight: float = Field(10.0, gt=0, le=1e4, description="factor of the term")
    slices: int = Field(64, ge=1, le=4096, description="random directions a step")


class AdversarialPrior(Part):
    """A discriminator between clean latents and prior draws: the prior term of the original Deep InfoMax."""

    kind: Literal["adversarial"] = "adversarial"
    weight: float = Field(0.5, gt=0, le=1000, description="factor of the reversed gradient")
    hidden: int = Field(256, ge=1, le=8192, description="width of the discriminator's two hidden layers")


class Uniformity(Part):
    """The latents' directions are spread over the sphere (Wang & Isola 2020)."""

    kind: Literal["uniformity"] = "uniformity"
    weight: float = Field(0.5, gt=0, le=1000, description="factor of the term")
    temperature: float = Field(2.0, gt=0, le=100, description="t of the Gaussian potential")


Regularizer = Annotated[
    NoRegularizer | SlicedEppsPulley | BHEPDistance | SlicedWasserstein | AdversarialPrior | Uniformity,
    Field(discriminator="kind"),
]
