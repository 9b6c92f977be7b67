"""N(0, τ²I_d): log p = −½‖x/τ‖² − d·log τ − d/2·log 2π, s = x/τ."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nidim.priors.base import Floats, IndependentPrior


@dataclasses.dataclass(frozen=True)
class GaussianPrior(IndependentPrior):
    """N(0, τ²I_d); ``scale`` = τ. Raises ValueError unless τ is finite and above 0."""

    scale: float = 1.0
    kind = "gaussian"

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be finite and above 0, got {self.scale!r}")

    @property
    def name(self) -> str:
        variance = self.scale**2
        return "N(0, I)" if variance == 1 else f"N(0, {variance:.4g} I)"

    def log_prob(self, x: ArrayLike) -> Floats:
        constant = self.dim * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        return -0.5 * self.outlyingness(x) - constant

    def outlyingness(self, x: ArrayLike) -> Floats:
        values = self.rows(x)
        squared: Floats = np.einsum("ij,ij->i", values, values)
        return squared / self.scale**2

    def cdf(self, x: ArrayLike) -> Floats:
        return special.ndtr(self.normal_scores(x))

    def normal_scores(self, x: ArrayLike) -> Floats:
        return np.asarray(x, dtype=np.float64) / self.scale

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        return np.asarray(s, dtype=np.float64) * self.scale

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim, "scale": self.scale}
