"""How far a healthy encoder is from its prior: measured on held-out images, not assumed to be nothing.

For each group of features with held-out mean m̂ the tolerated means are the segment from 0 (the law itself) to m̂ (what
the encoder showed), with a ball of radius δ around every point of it:

    C = {θ·m̂ + e : 0 ≤ θ ≤ 1, ‖e‖ ≤ δ},    sup_{μ ∈ C} λ·μ = max(0, λ·m̂) + δ‖λ‖.

δ bounds ‖m̂ − μ‖ for the true mean μ of images like the held-out ones, in all groups at once with confidence 95 %: n‖m̂ −
μ‖² is a weighted sum of χ²₁, taken as the gamma law with its mean tr Σ and variance 2 tr Σ² (Satterthwaite).
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import special

from nidim.drift.features import Floats, features, layout

CONFIDENCE = 0.95
LEAST_IMAGES = 100
"""Held-out images from which a tolerance can be measured."""
_ROWS = 4096  # in memory at a time
_ROUNDING = 1e-5  # means are rounded to six digits


class GroupTolerance(BaseModel):
    """The tolerated means of one group of features."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...] = Field(description="held-out mean of each feature, in deviations under the law")
    radius: float = Field(ge=0, description="δ: how far the true mean may be from the held-out one")


class Tolerance(BaseModel):
    """What still counts as healthy."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    dim: int = Field(ge=1, description="d")
    n: int = Field(ge=0, description="held-out images; 0: the law itself and nothing else")
    confidence: float = Field(gt=0, lt=1, description="that every δ is large enough")
    groups: dict[str, GroupTolerance]

    @model_validator(mode="after")
    def _fits(self) -> Tolerance:
        expected = {name: at.stop - at.start for name, at in layout(self.dim).groups.items()}
        if {name: len(group.mean) for name, group in self.groups.items()} != expected:
            raise ValueError(f"the groups must have these numbers of features: {expected}")
        return self

    @classmethod
    def exact(cls, dim: int) -> Tolerance:
        """No tolerance: the law itself."""
        groups = {
            name: GroupTolerance(mean=(0.0,) * (at.stop - at.start), radius=0.0)
            for name, at in layout(dim).groups.items()
        }
        return cls(dim=dim, n=0, confidence=CONFIDENCE, groups=groups)

    @functools.cached_property
    def regions(self) -> tuple[Region, ...]:
        """The groups in the order of the columns."""
        return tuple(
            Region(name, at, np.array(self.groups[name].mean), self.groups[name].radius)
            for name, at in layout(self.dim).groups.items()
        )


class Region:
    """C of one group: a segment from 0 to ``mean``, ``radius`` around it."""

    def __init__(self, name: str, columns: slice, mean: Floats, radius: float) -> None:
        self.name, self.columns, self.mean, self.radius = name, columns, mean, radius
        self._squared = float(mean @ mean)

    def support(self, direction: Floats) -> float:
        """sup of direction·μ over the region."""
        return max(0.0, float(direction @ self.mean)) + self.radius * float(np.linalg.norm(direction))

    def beyond(self, point: Floats) -> Floats:
        """``point`` minus the point of the region nearest to it; 0 inside."""
        away = point - self.nearest_on_segment(point)
        distance = float(np.linalg.norm(away))
        if distance <= self.radius:
            return np.zeros_like(away)
        return away * (1 - self.radius / distance)

    def nearest_on_segment(self, point: Floats) -> Floats:
        """The point of the segment that is nearest."""
        share = float(point @ self.mean) / self._squared if self._squared > 0 else 0.0
        return min(max(share, 0.0), 1.0) * self.mean


def calibrate(scores: ArrayLike) -> Tolerance:
    """The tolerance of an encoder whose held-out embeddings have the normal scores (n, d).

    Raises ValueError for another shape, and for fewer than 100 rows.
    """
    s = np.asarray(scores)
    if s.ndim != 2:
        raise ValueError(f"expected normal scores (n, d), got shape {s.shape}")
    n, d = s.shape
    if n < LEAST_IMAGES:
        raise ValueError(f"{n} held-out images; a tolerance needs {LEAST_IMAGES}")
    columns = layout(d)
    sums = np.zeros(columns.size)
    products = {name: np.zeros((at.stop - at.start,) * 2) for name, at in columns.groups.items()}
    for start in range(0, n, _ROWS):
        values = features(s[start : start + _ROWS])
        sums += values.sum(axis=0)
        for name, at in columns.groups.items():
            products[name] += values[:, at].T @ values[:, at]
    alpha = (1 - CONFIDENCE) / len(columns.groups)
    groups = {}
    for name, at in columns.groups.items():
        mean = sums[at] / n
        covariance = (products[name] - n * np.outer(mean, mean)) / (n - 1)
        groups[name] = GroupTolerance(
            mean=tuple(float(f"{m:.6g}") for m in mean), radius=_radius(covariance, n, alpha)
        )
    return Tolerance(dim=d, n=n, confidence=CONFIDENCE, groups=groups)


def _radius(covariance: Floats, n: int, alpha: float) -> float:
    """The 1 − α quantile of ‖m̂ − μ‖ for the mean of n rows with this covariance (k, k)."""
    mean, variance = float(np.trace(covariance)) / n, 2 * float(np.square(covariance).sum()) / n**2
    if mean * n < _ROUNDING:  # a collapsed encoder: all rows are alike
        return _ROUNDING
    squared = special.gammainccinv(mean**2 / variance, alpha) * variance / mean
    return float(np.sqrt(squared)) + _ROUNDING
