"""What is watched: bounded functions of normal scores, of mean 0 and variance 1 each when the scores are N(0, I).

With u = Φ(s) per coordinate, P₁(u) = √3(2u − 1) and P₂(u) = √5(6u² − 6u + 1), and r = P(χ²_d ≤ ‖s‖²):

    location      P₁(u_j)                                a mean that moves
    scale         P₂(u_j)                                a variance, a tail
    radius        P₁(r), P₂(r), 1{r > .99}, 1{r < .01}   all variances at once, outliers, blank images
    correlation   P₁(u_i)·P₁(u_j), i < j                 coordinates that begin to move together

Bounded, so that a bet on any of them can lose no more than was staked, whatever the images are.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

MOST_PAIRS = 496
"""All pairs of up to 32 coordinates; of more coordinates those next to each other first."""
TAIL = 0.01
_TAIL_LOW, _TAIL_HIGH = -((TAIL / (1 - TAIL)) ** 0.5), ((1 - TAIL) / TAIL) ** 0.5


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which columns of the features are which, and between which bounds they lie; K columns in all."""

    dim: int
    groups: dict[str, slice]
    pairs: NDArray[np.int64]
    low: Floats
    high: Floats

    @property
    def size(self) -> int:
        """K."""
        return len(self.low)


@functools.lru_cache(maxsize=64)
def layout(dim: int) -> Layout:
    """The columns for d = ``dim`` coordinates."""
    pairs = _pairs(dim)
    widths = {"location": dim, "scale": dim, "radius": 4, "correlation": pairs.shape[1]}
    ends = np.cumsum([0, *widths.values()])
    groups = {name: slice(int(a), int(b)) for name, a, b in zip(widths, ends[:-1], ends[1:], strict=True)}
    p1, p2 = (-(3**0.5), 3**0.5), (-(5**0.5) / 2, 5**0.5)
    bounds = [*[p1] * dim, *[p2] * dim, p1, p2, *[(_TAIL_LOW, _TAIL_HIGH)] * 2]
    bounds += [(-3.0, 3.0)] * pairs.shape[1]
    low, high = np.array(bounds).T
    return Layout(dim, {n: s for n, s in groups.items() if s.stop > s.start}, pairs, low, high)


def _pairs(dim: int) -> NDArray[np.int64]:
    """(2, P): the nearest neighbours first, at most MOST_PAIRS."""
    found: list[tuple[int, int]] = []
    for step in range(1, dim):
        if len(found) >= MOST_PAIRS:
            break
        found += [(i, i + step) for i in range(dim - step)]
    return np.array(found[:MOST_PAIRS], dtype=np.int64).reshape(-1, 2).T


def features(scores: ArrayLike) -> Floats:
    """(n, K) for normal scores (n, d); infinite ones are at the bounds. Raises ValueError for NaN or another shape."""
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] < 1:
        raise ValueError(f"normal scores must be (n, d), got shape {s.shape}")
    if np.isnan(s).any():
        raise ValueError("normal scores must not be NaN; leave out the rows that have no value")
    d = s.shape[1]
    columns = layout(d)
    out = np.empty((len(s), columns.size))
    u = special.ndtr(s)
    out[:, :d] = _p1(u)
    out[:, d : 2 * d] = _p2(u)
    r = special.chdtr(d, np.square(s).sum(axis=1))
    radius = out[:, columns.groups["radius"]]
    radius[:, 0], radius[:, 1] = _p1(r), _p2(r)
    radius[:, 2], radius[:, 3] = _tail(r > 1 - TAIL), _tail(r < TAIL)
    if "correlation" in columns.groups:
        i, j = columns.pairs
        np.multiply(out[:, i], out[:, j], out=out[:, columns.groups["correlation"]])
    return out


def _p1(u: Floats) -> Floats:
    return 3**0.5 * (2 * u - 1)


def _p2(u: Floats) -> Floats:
    return 5**0.5 * (6 * u * (u - 1) + 1)


def _tail(inside: NDArray[np.bool_]) -> Floats:
    return np.where(inside, _TAIL_HIGH, _TAIL_LOW)
