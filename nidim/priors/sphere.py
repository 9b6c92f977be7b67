"""The uniform law on the sphere S^{d−1} = {x : ‖x‖ = 1}: the Gaussian latent over its length.

log p(x) = −log area, area = 2π^{d/2}/Γ(d/2), with respect to the area. No point is less likely than another: the
p-value of a point of the sphere is 1. A coordinate follows (1 + x_j)/2 ~ Beta((d−1)/2, (d−1)/2); coordinates are not
independent, so there is no distribution function.

A latent is more than its direction. The normal scores of a point are the point times a radius that follows χ_d and is
independent of it, so they are N(0, I) exactly when the point is uniform; the radius is a number that is drawn once for
each point of the sphere (:func:`nidim.streams.uniform_of`), the same wherever the point occurs. So a test on normal
scores judges the direction; what it says about the radius holds by construction.

References: Muller 1959; Fang, Kotz & Ng 1990.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.priors.base import Floats, Prior
from nidim.streams import uniform_of

TOLERANCE = 1e-5
"""By which a length may differ from 1: roundings of float32, over many coordinates or some digits of JSON."""
_TINY = np.finfo(np.float64).tiny
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class SpherePrior(Prior):
    """Uniform on S^{d−1}, d ≥ 2. Raises ValueError for d < 2: a pair of points has no density."""

    kind = "sphere"
    through_normal = True
    has_temperature = False
    scores_by = "as directions, each with a radius drawn for it"
    drawn = (
        "a point of the sphere has no radius: that of its normal scores is drawn, so its test passes anyway"
    )

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise ValueError(f"a sphere needs dim of at least 2, got {self.dim}")

    @property
    def name(self) -> str:
        return f"uniform on the sphere S{str(self.dim - 1).translate(_SUPERSCRIPT)}"

    def log_prob(self, x: ArrayLike) -> Floats:
        log_area = math.log(2) + self.dim / 2 * math.log(math.pi) - math.lgamma(self.dim / 2)
        return self._scored(x, on=-log_area, off=-np.inf)

    def contains(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row of x (n, d) is of length 1, within 1e-5."""
        return np.abs(_lengths(self.rows(x))[:, 0] - 1) <= TOLERANCE

    def normal_scores(self, x: ArrayLike) -> Floats:
        values = np.asarray(x, dtype=np.float64)
        radius = np.sqrt(2 * special.gammaincinv(self.dim / 2, uniform_of(values)))
        directions = values / np.maximum(_lengths(values), _TINY)
        return self._scored(values, on=1.0, off=np.inf)[:, None] * np.where(
            self.contains(values)[:, None], directions * radius[:, None], 1.0
        )

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        values = np.asarray(s, dtype=np.float64)
        return values / np.maximum(_lengths(values), _TINY)

    def quantiles(self, levels: ArrayLike) -> Floats:
        half = (self.dim - 1) / 2
        column = 2 * special.betaincinv(half, half, np.asarray(levels, dtype=np.float64)) - 1
        return np.repeat(column[:, None], self.dim, axis=1)

    def positions(self, x: ArrayLike) -> Floats:
        return np.asarray(x, dtype=np.float64)

    def p_value(self, x: ArrayLike) -> Floats:
        """P(p(X) ≤ p(x)), shape (n,): 1 on the sphere, where all points are equally likely, and 0 off it."""
        return self._scored(x, on=1.0, off=0.0)

    def outlyingness(self, x: ArrayLike) -> Floats:
        """0 on the sphere, where all points are equally likely, and ∞ off it."""
        return self._scored(x, on=0.0, off=np.inf)

    def _scored(self, x: ArrayLike, *, on: float, off: float) -> Floats:
        """``on`` for each row on the sphere, ``off`` for one off it, NaN for one that is no point, shape (n,)."""
        return np.where(np.isnan(self.rows(x)).any(axis=1), np.nan, np.where(self.contains(x), on, off))

    def _between(self, start: Floats, end: Floats, t: Floats) -> Floats:
        """The shorter great circle, evenly; of opposite points one of the great circles."""
        if not (_lengths(np.concatenate([start, end])) > 0).all():
            raise ValueError("the origin has no direction to go from or to; give points of the sphere")
        a, b = (v[0] / _lengths(v)[0] for v in (start, end))
        angle = 2 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))
        tangent = b - (a @ b) * a
        if np.linalg.norm(tangent) < 1e-12:
            axis = np.eye(self.dim)[np.abs(a).argmin()]
            tangent = axis - (a @ axis) * a
        return np.cos(angle * t) * a + np.sin(angle * t) * tangent / np.linalg.norm(tangent)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim}


def _lengths(x: Floats) -> Floats:
    """‖x‖ of each row, (n, 1)."""
    return np.linalg.norm(x, axis=1, keepdims=True)
