"""What every known law can do: be drawn from, score, and be moved along.

Every law here has independent coordinates, so one map carries it to the standard normal and back, the *normal scores*
s = Φ⁻¹(F(x)): temperature, p-values and interpolation are defined on s, once, for all laws. float64 on the CPU; draws
leave as float32. Log-densities in nats.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.streams import uniform53

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Prior(abc.ABC):
    """A law on R^d with independent, identical coordinates; ``dim`` = d."""

    dim: int
    kind = ""
    through_normal = False
    """Whether an embedding is ``from_normal_scores`` of a standard normal latent, where its noise lives."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The law in words, as ``N(0, 1.11 I)``."""

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
