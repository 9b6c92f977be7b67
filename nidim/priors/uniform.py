"""U([a, b]^d): log p = −d·log(b − a) inside, −∞ outside; s = Φ⁻¹((x − a)/(b − a)).

Two constructions (``UniformPrior.construction``): ``gaussian_cdf``, exact at any σ: the Gaussian construction through
Φ; ``sigmoid``, the paper's: sigmoid output and uniform noise, where the *noisy* embedding approaches U([−ε, 1+ε]^d) and
the clean one U([0, 1]^d) only as ε → 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nidim.priors.base import Floats, IndependentPrior

Construction = Literal["gaussian_cdf", "sigmoid"]
_TINY, _ONE = 2.0**-54, 1 - 2.0**-53  # the edges of the support, moved inside so that scores stay finite
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class UniformPrior(IndependentPrior):
    """U([low, high]^d). Raises ValueError unless low < high, both finite."""

    construction: Construction = "gaussian_cdf"
    low: float = 0.0
    high: float = 1.0
    kind = "uniform"

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"low and high must be finite, low below high, got {self.low!r} and {self.high!r}"
            )

    @property
    def through_normal(self) -> bool:  # type: ignore[override]
        return self.construction == "gaussian_cdf"

    @property
    def name(self) -> str:
        power = str(self.dim).translate(_SUPERSCRIPT)
        return f"U([{self.low:.4g}, {self.high:.4g}]{power})".replace("-", "−")

    def log_prob(self, x: ArrayLike) -> Floats:
        values = self.rows(x)
        inside = ((values >= self.low) & (values <= self.high)).all(axis=1)
        scored = np.where(inside, -self.dim * math.log(self.high - self.low), -np.inf)
        return np.where(np.isnan(values).any(axis=1), np.nan, scored)

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
