"""The laws that embeddings may follow: the field ``prior`` of a spec."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nidim.spec.base import Part
from nidim.spec.targets import FlowPrior


class GaussianPrior(Part):
    """N(0, I_d)."""

    kind: Literal["gaussian"] = "gaussian"


class UniformPrior(Part):
    """U([0, 1]^d).

    With Gaussian noise the uniform law is exact: the Gaussian construction through Φ. With uniform noise
    it is the paper's construction (a sigmoid and noise on the support), exact as ε → 0 only.
    """

    kind: Literal["uniform"] = "uniform"


class SpherePrior(Part):
    """Uniform on the unit sphere of R^d, d at least 2: the Gaussian latent over its length.

    Its coordinates depend on each other and it has no centre: no temperature, and p-values of 1.
    """

    kind: Literal["sphere"] = "sphere"


REACH = 3
"""Standard deviations within which the components of a mixture must meet."""


class ShiftedLaw(Part):
    """A law of scipy.stats for every coordinate: loc + scale · X."""

    loc: float = Field(0.0, ge=-1e6, le=1e6, description="shift of every coordinate")
    scale: float = Field(1.0, ge=1e-6, le=1e6, description="factor of every coordinate, before the shift")

    @property
    def title(self) -> str:
        """The law in words, as ``1 + 2 Beta(2, 5)``."""
        shape = self.model_dump(exclude={"kind", "loc", "scale"}).values()
        name = type(self).__name__.removesuffix("Prior")
        law = f"{name}({', '.join(f'{value:.4g}' for value in shape)})" if shape else name
        scaled = law if self.scale == 1 else f"{self.scale:.4g} {law}"
        return scaled if self.loc == 0 else f"{self.loc:.4g} + {scaled}"


class LaplacePrior(ShiftedLaw):
    """Density ½ exp(−|x|)."""

    kind: Literal["laplace"] = "laplace"


class StudentTPrior(ShiftedLaw):
    """Student's t: heavy tails."""

    kind: Literal["student_t"] = "student_t"
    df: float = Field(
        5.0, gt=2, le=1000, description="degrees of freedom; above 2, so that the variance is finite"
    )


class LogisticPrior(ShiftedLaw):
    """Distribution function 1/(1 + exp(−x))."""

    kind: Literal["logistic"] = "logistic"


class BetaPrior(ShiftedLaw):
    """Beta(a, b) on [0, 1]."""

    kind: Literal["beta"] = "beta"
    a: float = Field(2.0, ge=1, le=1000, description="first shape; from 1, so that the density is finite")
    b: float = Field(2.0, ge=1, le=1000, description="second shape; from 1, so that the density is finite")


class ExponentialPrior(ShiftedLaw):
    """Density exp(−x) for x ≥ 0."""

    kind: Literal["exponential"] = "exponential"


class Component(Part):
    """w N(m, s²)."""

    weight: float = Field(1.0, ge=1e-6, le=1e6, description="divided by the sum of all")
    mean: float = Field(0.0, ge=-1e6, le=1e6, description="m")
    scale: float = Field(1.0, ge=1e-3, le=1e6, description="s, the standard deviation")


class GaussianMixturePrior(Part):
    """Σ w_k N(m_k, s_k²) for every coordinate."""

    kind: Literal["gaussian_mixture"] = "gaussian_mixture"
    components: tuple[Component, ...] = Field(
        (Component(mean=-2.0), Component(mean=2.0)),
        min_length=1,
        max_length=16,
        description="1 to 16 of them",
    )

    @model_validator(mode="after")
    def _in_one_piece(self) -> Self:
        pieces = sorted((c.mean - REACH * c.scale, c.mean + REACH * c.scale) for c in self.components)
        reached = pieces[0][1]
        for low, high in pieces[1:]:
            if low > reached:
                raise ValueError(
                    f"nothing lies between {reached:.4g} and {low:.4g}: an encoder is continuous and cannot leave "
                    f"such a gap; let the components meet within {REACH} standard deviations"
                )
            reached = max(reached, high)
        return self

    @property
    def title(self) -> str:
        """The law in words, as ``0.5 N(-2, 1) + 0.5 N(2, 1)``."""
        whole = sum(c.weight for c in self.components)
        return " + ".join(
            f"{c.weight / whole:.3g} N({c.mean:.4g}, {c.scale**2:.4g})" for c in self.components
        )


SciPyLaw = LaplacePrior | StudentTPrior | LogisticPrior | BetaPrior | ExponentialPrior
MarginalLaw = Annotated[SciPyLaw | GaussianMixturePrior, Field(discriminator="kind")]
"""Laws that stand independently in every coordinate, made from the Gaussian latent by F⁻¹ ∘ Φ."""

PriorSpec = Annotated[
    GaussianPrior | UniformPrior | SciPyLaw | GaussianMixturePrior | SpherePrior | FlowPrior,
    Field(discriminator="kind"),
]
