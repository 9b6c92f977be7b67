"""What every known law can do: be drawn from, score, and be moved along.

Every law here is carried to the standard normal and back by its *normal scores*: s follows N(0, I) exactly when x
follows the law. P-values, temperature and interpolation are defined on s, once, and so are the tests of an evaluation.
For independent coordinates s = Φ⁻¹(F(x)), and there is a distribution function; a law on the sphere or one made by a
flow has none. float64 on the CPU; draws leave as float32. Log-densities in nats.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.streams import uniform53

Floats = NDArray[np.float64]

FARTHEST_SCORE = 8.3
"""No draw is farther out: of 53 random bits the last is a probability of 2⁻⁵⁴."""
HALVINGS = 60
"""Of an interval of logarithms, until it is as small as their rounding."""
EDGE_SCORE = 38.0
"""Where interpolation puts an edge of the support, whose score is ±∞: the last whose tail a double holds."""


@dataclasses.dataclass(frozen=True)
class Prior(abc.ABC):
    """A law on R^d; ``dim`` = d."""

    dim: int
    kind = ""
    through_normal = False
    """Whether an embedding is ``from_normal_scores`` of a standard normal latent, where its noise lives."""
    has_temperature = True
    """Whether draws can be made nearer to the centre: not where a law has none."""
    scores_by = "by the law's own distribution function"
    """How a value is carried to its normal scores, in words."""
    drawn = ""
    """What of the normal scores is drawn instead of measured, in words; empty: nothing."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The law in words, as ``N(0, 1.11 I)``."""

    @abc.abstractmethod
    def log_prob(self, x: ArrayLike) -> Floats:
        """log p(x) in nats, shape (n,), for x (n, d); −∞ outside the support, NaN for a row that holds a NaN."""

    @abc.abstractmethod
    def normal_scores(self, x: ArrayLike) -> Floats:
        """s for x (n, d), the same shape: N(0, I) when x follows the law; ±∞ outside the support."""

    @abc.abstractmethod
    def from_normal_scores(self, s: ArrayLike) -> Floats:
        """x for s (n, d), the same shape: follows the law when s is N(0, I)."""

    @abc.abstractmethod
    def quantiles(self, levels: ArrayLike) -> Floats:
        """x_j with P(X_j ≤ x_j) = level for each of ``levels`` (k,) in (0, 1) and each coordinate j, shape (k, d)."""

    def pooled_quantiles(self, levels: ArrayLike) -> Floats:
        """The same of all coordinates together, shape (k,)."""
        return self.quantiles(levels)[:, 0]  # the coordinates of most laws are alike

    def positions(self, x: ArrayLike) -> Floats:
        """x (n, d) in a scale in which a Euclidean distance says how far two points are apart."""
        return self.normal_scores(x)

    def sample(self, n: int, *, seed: int, offset: int = 0, temperature: float = 1.0) -> NDArray[np.float32]:
        """Rows [offset, offset + n) of the stream ``seed``, float32 (n, d).

        ``temperature`` multiplies the normal scores: below 1 draws nearer to the centre. Raises ValueError for one
        that draws cannot have (:meth:`temperature_refused`), and for n < 0.
        """
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}")
        if refused := self.temperature_refused(temperature):
            raise ValueError(f"temperature: {refused}")
        return self._page(n, seed=seed, offset=offset, temperature=temperature)

    def _page(self, n: int, *, seed: int, offset: int, temperature: float) -> NDArray[np.float32]:
        uniform = uniform53(seed, rows=(offset, offset + n), d=self.dim)
        return self._drawn(uniform, temperature).astype(np.float32)

    def _drawn(self, uniform: Floats, temperature: float) -> Floats:
        return self.from_normal_scores(temperature * special.ndtri(uniform))

    def temperature_refused(self, temperature: float) -> str:
        """Why draws cannot have it, in words for who asked: of a law without a centre any but 1; empty: they can."""
        if not 0 <= temperature < math.inf:
            return f"it must be a finite number from 0 on, not {temperature:g}"
        if temperature != 1.0 and not self.has_temperature:
            return f"{self.name} has no centre: it must be 1"
        return ""

    def rows(self, x: ArrayLike) -> Floats:
        """x as float64 (n, d). Raises ValueError for another shape, which NumPy would broadcast to wrong numbers."""
        values = np.asarray(x, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(f"x must have shape (n, {self.dim}), got {values.shape}")
        return values

    def p_value(self, x: ArrayLike) -> Floats:
        """P(χ²_d ≥ ‖s‖²), shape (n,): small for an outlier, uniform on (0, 1) under the law."""
        return special.chdtrc(self.dim, self.outlyingness(x))

    def outlyingness(self, x: ArrayLike) -> Floats:
        """‖s‖², shape (n,): by which outliers are ranked, large for one; ∞ outside the support."""
        return np.square(self.normal_scores(self.rows(x))).sum(axis=1)

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int) -> Floats:
        """``steps`` points from a to b, both (d,), both included; shape (steps, d).

        ((1−t)·s_a + t·s_b) / √((1−t)² + t²) on normal scores: between independent draws of the law every
        point follows the law again. Raises ValueError for other shapes and NaN, and below two steps.
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        start, end = (self._one_row(name, v) for name, v in (("a", a), ("b", b)))
        points = self._between(start, end, np.linspace(0.0, 1.0, steps)[:, None])
        points[0], points[-1] = start[0], end[0]  # to the last digit, and where a score has none: at an edge
        return points

    def _one_row(self, name: str, x: ArrayLike) -> Floats:
        point = np.asarray(x, dtype=np.float64)
        if point.shape != (self.dim,):
            raise ValueError(f"{name} must have shape ({self.dim},), got {point.shape}")
        if np.isnan(point).any():
            raise ValueError(f"{name} must be numbers, not NaN")
        return point[None]

    def _between(self, start: Floats, end: Floats, t: Floats) -> Floats:
        """The points at ``t`` (k, 1) between ``start`` and ``end``, (1, d) each."""
        a, b = (
            np.nan_to_num(self.normal_scores(x), posinf=EDGE_SCORE, neginf=-EDGE_SCORE) for x in (start, end)
        )
        return self.from_normal_scores(((1 - t) * a + t * b) / np.sqrt((1 - t) ** 2 + t**2))

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """The law as JSON values; :func:`prior_from_dict` reads it back."""


class IndependentPrior(Prior):
    """A law with independent, identical coordinates: s = Φ⁻¹(F(x)), coordinate by coordinate, in any shape."""

    @abc.abstractmethod
    def cdf(self, x: ArrayLike) -> Floats:
        """F(x) per coordinate, shape of ``x``."""

    def icdf(self, u: ArrayLike) -> Floats:
        """x with F(x) = u per coordinate, for u in (0, 1)."""
        return self.from_normal_scores(special.ndtri(np.asarray(u, dtype=np.float64)))

    def quantiles(self, levels: ArrayLike) -> Floats:
        return np.repeat(self.icdf(levels)[:, None], self.dim, axis=1)

    def temperature_refused(self, temperature: float) -> str:
        """Why draws cannot have it: the farthest would not be finite in float32. Empty: they can."""
        refused = super().temperature_refused(temperature)
        if refused or temperature <= 1.0 or self._holds(temperature):
            return refused
        low, high = 0.0, math.log(temperature)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._holds(math.exp(middle)) else (low, middle)
        step = 10.0 ** (math.floor(low / math.log(10)) - 2)
        most = math.floor(math.exp(low) / step) * step  # three digits, rounded down
        return (
            f"the farthest draws of {self.name} would be larger than float32 holds, or less likely than a double does: "
            f"it must be at most {most:g}"
        )

    def _holds(self, temperature: float) -> bool:
        """Whether all draws at ``temperature`` are finite in float32."""
        with np.errstate(over="ignore"):
            farthest = self.from_normal_scores(np.array([-1.0, 1.0]) * FARTHEST_SCORE * temperature)
            return bool(np.isfinite(farthest.astype(np.float32)).all())

    def _drawn(self, uniform: Floats, temperature: float) -> Floats:
        return self.icdf(uniform) if temperature == 1.0 else super()._drawn(uniform, temperature)
