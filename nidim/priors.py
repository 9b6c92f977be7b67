"""The known law of the embeddings: draw from it, score by it, move along it.

Every law here has independent coordinates, so one map carries it to the standard normal and back, the
*normal scores* s = Φ⁻¹(F(x)): temperature, p-values and interpolation are defined on s, once, for all laws.

    N(0, τ²I_d)         log p = −½‖x/τ‖² − d·log τ − d/2·log 2π      s = x/τ
    U([a, b]^d)         log p = −d·log(b − a) inside, −∞ outside     s = Φ⁻¹((x − a)/(b − a))

float64 on the CPU; draws leave as float32. Log-densities in nats.

Two constructions of the uniform law (``UniformPrior.construction``): ``gaussian_cdf``, exact at any σ: the
Gaussian construction through Φ; ``sigmoid``, the paper's: sigmoid output and uniform noise, where the *noisy*
embedding approaches U([−ε, 1+ε]^d) and the clean one U([0, 1]^d) only as ε → 0.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.capacity import Resolved
from nidim.spec import FullSpec
from nidim.streams import uniform53

Floats = NDArray[np.float64]
Construction = Literal["gaussian_cdf", "sigmoid"]
_TINY, _ONE = 2.0**-54, 1 - 2.0**-53  # the edges of the support, moved inside so that scores stay finite


@dataclasses.dataclass(frozen=True)
class Prior(abc.ABC):
    """A law on R^d with independent, identical coordinates; ``dim`` = d."""

    dim: int
    kind = ""

    @abc.abstractmethod
    def log_prob(self, x: ArrayLike) -> Floats:
        """log p(x) in nats, shape (n,), for x (n, d); −∞ outside the support."""

    @abc.abstractmethod
    def cdf(self, x: ArrayLike) -> Floats:
        """F(x) per coordinate, shape of ``x``."""

    @abc.abstractmethod
    def normal_scores(self, x: ArrayLike) -> Floats:
        """s with Φ(s) = F(x), shape of ``x``; ±∞ outside the support."""

    @abc.abstractmethod
    def from_normal_scores(self, s: ArrayLike) -> Floats:
        """x with F(x) = Φ(s), shape of ``s``."""

    def icdf(self, u: ArrayLike) -> Floats:
        """x with F(x) = u per coordinate, for u in (0, 1)."""
        return self.from_normal_scores(special.ndtri(np.asarray(u, dtype=np.float64)))

    def sample(self, n: int, *, seed: int, offset: int = 0, temperature: float = 1.0) -> NDArray[np.float32]:
        """Rows [offset, offset + n) of the stream ``seed``, float32 (n, d).

        ``temperature`` multiplies the normal scores: below 1 draws nearer to the centre.
        """
        uniform = uniform53(seed, rows=(offset, offset + n), d=self.dim)
        if temperature == 1.0:
            return self.icdf(uniform).astype(np.float32)
        return self.from_normal_scores(temperature * special.ndtri(uniform)).astype(np.float32)

    def p_value(self, x: ArrayLike) -> Floats:
        """P(χ²_d ≥ ‖s‖²), shape (n,): small for an outlier, uniform on (0, 1) under the law."""
        squared = np.square(self.normal_scores(x)).sum(axis=1)
        return special.chdtrc(self.dim, squared)

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int) -> Floats:
        """``steps`` points from a to b, both (d,), both included; shape (steps, d).

        ((1−t)·s_a + t·s_b) / √((1−t)² + t²) on normal scores: between independent draws of the law every
        point follows the law again.
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        t = np.linspace(0.0, 1.0, steps)[:, None]
        start, end = (self.normal_scores(np.asarray(v, dtype=np.float64)[None]) for v in (a, b))
        return self.from_normal_scores(((1 - t) * start + t * end) / np.sqrt((1 - t) ** 2 + t**2))

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """The law as JSON values; :func:`prior_from_dict` reads it back."""


@dataclasses.dataclass(frozen=True)
class GaussianPrior(Prior):
    """N(0, τ²I_d); ``scale`` = τ."""

    scale: float = 1.0
    kind = "gaussian"

    def log_prob(self, x: ArrayLike) -> Floats:
        scores = self.normal_scores(x)
        constant = self.dim * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        return -0.5 * np.square(scores).sum(axis=1) - constant

    def cdf(self, x: ArrayLike) -> Floats:
        return special.ndtr(self.normal_scores(x))

    def normal_scores(self, x: ArrayLike) -> Floats:
        return np.asarray(x, dtype=np.float64) / self.scale

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        return np.asarray(s, dtype=np.float64) * self.scale

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim, "scale": self.scale}


@dataclasses.dataclass(frozen=True)
class UniformPrior(Prior):
    """U([low, high]^d)."""

    construction: Construction = "gaussian_cdf"
    low: float = 0.0
    high: float = 1.0
    kind = "uniform"

    def log_prob(self, x: ArrayLike) -> Floats:
        values = np.asarray(x, dtype=np.float64)
        inside = ((values >= self.low) & (values <= self.high)).all(axis=1)
        return np.where(inside, -self.dim * math.log(self.high - self.low), -np.inf)

    def cdf(self, x: ArrayLike) -> Floats:
        return np.clip((np.asarray(x, dtype=np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)

    def icdf(self, u: ArrayLike) -> Floats:
        return self.low + (self.high - self.low) * np.asarray(u, dtype=np.float64)

    def normal_scores(self, x: ArrayLike) -> Floats:
        values = np.asarray(x, dtype=np.float64)
        scores = special.ndtri(np.clip(self.cdf(values), _TINY, _ONE))
        return np.where(values < self.low, -np.inf, np.where(values > self.high, np.inf, scores))

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        return self.icdf(special.ndtr(np.asarray(s, dtype=np.float64)))

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "dim": self.dim,
            "construction": self.construction,
            "low": self.low,
            "high": self.high,
        }


def prior_from_dict(description: dict[str, Any]) -> Prior:
    """The law that :meth:`Prior.describe` described. Raises ValueError for an unknown kind."""
    kinds = {"gaussian": GaussianPrior, "uniform": UniformPrior}
    values = dict(description)
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"unknown prior kind {kind!r}; known: {', '.join(kinds)}")
    return kinds[kind](**values)


def make_prior(spec: FullSpec) -> Prior:
    """The law that the clean embeddings of a filled ``spec`` are to follow."""
    if spec.prior.kind == "gaussian":
        return GaussianPrior(spec.encoder.dim)
    return UniformPrior(spec.encoder.dim, construction=construction_of(spec))


def construction_of(spec: FullSpec) -> Construction:
    """How a uniform law is made: by Φ of a Gaussian latent, or by the sigmoid alone."""
    return "sigmoid" if spec.normalization.kind == "sigmoid" else "gaussian_cdf"


def noisy_prior(spec: FullSpec, resolved: Resolved) -> Prior:
    """The law that is promised to the embedding *with noise*, in the scale in which noise is served.

    N(0, (1+σ²)I) for the Gaussian; U([0, 1]^d) for the uniform through Φ, exact at every σ;
    U([−ε, 1+ε]^d) for the sigmoid with uniform noise.
    """
    prior = make_prior(spec)
    if isinstance(prior, GaussianPrior) and resolved.sigma is not None:
        return GaussianPrior(prior.dim, scale=math.sqrt(1 + resolved.sigma**2))
    if isinstance(prior, UniformPrior) and prior.construction == "sigmoid" and resolved.epsilon is not None:
        return dataclasses.replace(prior, low=-resolved.epsilon, high=1 + resolved.epsilon)
    return prior
