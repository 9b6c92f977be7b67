"""Laws that depart from N(0, I_d) in one known way, by an effect that can be made small.

| name        | law of a draw                                                          | effect                       |
|-------------|------------------------------------------------------------------------|------------------------------|
| shift       | N(0, I), first coordinate moved by δ                                   | δ, standard deviations       |
| scale       | (1 + δ) N(0, I)                                                        | δ                            |
| correlation | N(0, I), but ρ between the first two coordinates                       | ρ                            |
| kurtosis    | every coordinate Student's t of unit variance, 4 + 6/κ degrees         | κ, excess kurtosis           |
| skewness    | every coordinate a standardised Gamma(4/γ²)                            | γ, skewness                  |
| mixture     | first coordinate ½ N(−m, 1 − m²) + ½ N(m, 1 − m²)                      | m                            |
| hole        | N(0, I), but nothing in the ball around (1, 0, …, 0) that would hold q | q, share of the law          |
| sheet       | d/2 coordinates N(0, I), each with a folded copy of itself (k folds)   | 1/k                          |

Of the sheet every coordinate is exactly N(0, 1) and no two are correlated, but the draws fill no more than d/2
dimensions: the copy of s is Φ⁻¹(|2 frac(k Φ(s)) − 1|).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Departure:
    """``draw(rng, n, d, effect)`` gives (n, d), d even; ``phrase`` names the effect in a sentence."""

    name: str
    title: str
    phrase: str
    effects: tuple[float, ...]
    draw: Callable[[np.random.Generator, int, int, float], Floats]


def _shift(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    x = rng.standard_normal((n, d))
    x[:, 0] += effect
    return x


def _scale(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    return (1 + effect) * rng.standard_normal((n, d))


def _correlation(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    x = rng.standard_normal((n, d))
    x[:, 1] = effect * x[:, 0] + math.sqrt(1 - effect**2) * x[:, 1]
    return x


def _kurtosis(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    freedom = 4 + 6 / effect
    return rng.standard_t(freedom, (n, d)) * math.sqrt((freedom - 2) / freedom)


def _skewness(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    shape = 4 / effect**2
    return (rng.gamma(shape, size=(n, d)) - shape) / math.sqrt(shape)


def _mixture(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    x = rng.standard_normal((n, d))
    x[:, 0] = effect * rng.choice([-1.0, 1.0], n) + math.sqrt(1 - effect**2) * x[:, 0]
    return x


def _hole(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    radius2 = float(stats.ncx2(d, 1).ppf(effect))
    kept: list[Floats] = []
    while sum(map(len, kept)) < n:
        x = rng.standard_normal((n, d))
        distance2 = np.square(x).sum(axis=1) - 2 * x[:, 0] + 1
        kept.append(x[distance2 > radius2])
    return np.concatenate(kept)[:n]


def _sheet(rng: np.random.Generator, n: int, d: int, effect: float) -> Floats:
    s = rng.standard_normal((n, d // 2))
    phase = special.ndtr(s) / effect % 1.0
    folded = special.ndtri(np.clip(np.abs(2 * phase - 1), 1e-12, 1 - 1e-12))
    return np.concatenate([s, folded], axis=1)


NONE = Departure("none", "true draws", "true draws", (0.0,), lambda rng, n, d, _: rng.standard_normal((n, d)))
DEPARTURES = (
    Departure("shift", "Mean", "a mean of {} in one coordinate instead of 0", (0.05, 0.1, 0.2, 0.4), _shift),
    Departure("scale", "Scale", "every deviation too large by {}", (0.0125, 0.025, 0.05, 0.1), _scale),
    Departure(
        "correlation",
        "Correlation",
        "a correlation of {} between two coordinates",
        (0.05, 0.1, 0.2, 0.4),
        _correlation,
    ),
    Departure(
        "kurtosis",
        "Heavy tails",
        "an excess kurtosis of {} in every coordinate",
        (0.1, 0.25, 0.6, 1.5),
        _kurtosis,
    ),
    Departure("skewness", "Skew", "a skewness of {} in every coordinate", (0.06, 0.15, 0.35, 0.8), _skewness),
    Departure(
        "mixture",
        "Two clusters",
        "a coordinate of two clusters at ±{}, of unit variance in all",
        (0.5, 0.65, 0.8, 0.95),
        _mixture,
    ),
    Departure(
        "hole",
        "Hole",
        "a hole where {} of the law should be",
        (0.025, 0.05, 0.1, 0.2),
        _hole,
    ),
    Departure(
        "sheet",
        "Thin sheet",
        "a sheet of d/2 dimensions with folds {} apart",
        (0.125, 0.25, 0.5, 1.0),
        _sheet,
    ),
)
"""``{}`` in a phrase is the effect."""
BY_NAME = {departure.name: departure for departure in (NONE, *DEPARTURES)}
