"""Distances to the law, each beside its floor: the mean over independent sets of equally many true draws.

The law is N(0, I_d) for normal scores; the sliced Wasserstein distance of any other law is taken in that
law's own scale. Floors depend on the law, n, d and the settings alone, so they are computed once a process.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import bhep
from nidim.evaluate.draws import generator
from nidim.evaluate.epps_pulley import directions
from nidim.evaluate.moments import moment_errors
from nidim.evaluate.pairs import energy_and_mmd
from nidim.evaluate.report import Distance, Distances
from nidim.evaluate.wasserstein import mean_and_worst, squared_to_normal, squared_to_sample
from nidim.priors import Prior

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much work goes into the distances: part of what a floor depends on.

    ``pair_rows`` embeddings at most for what needs all pairs; ``own_values`` values (rows times d) at most where the
    law's own quantiles are computed, some of which take microseconds a value.
    """

    slices: int = 128
    pair_rows: int = 4096
    own_values: int = 1 << 20
    floor_sets: int = 8
    seed: int = 0


DEFINITIONS = {
    "energy": "energy distance to N(0, I), root, normal scores",
    "mmd": "maximum mean discrepancy to N(0, I), Gaussian kernel h² = d, root, normal scores",
    "bhep": "BHEP distance to N(0, I), the kernel of Henze–Zirkler for 64 points, root, normal scores",
    "mean_rms": "mean per coordinate of the normal scores, root mean square",
    "mean_max": "mean per coordinate of the normal scores, largest absolute",
    "variance_rms": "variance − 1 per coordinate of the normal scores, root mean square",
    "variance_max": "variance − 1 per coordinate of the normal scores, largest absolute",
    "correlation_rms": "correlations of the normal scores, root mean square",
    "correlation_max": "correlations of the normal scores, largest absolute",
    "skewness_rms": "skewness per coordinate of the normal scores, root mean square",
    "kurtosis_rms": "excess kurtosis per coordinate of the normal scores, root mean square",
    "effective_rank": "exponential of the entropy of the covariance's eigenvalues, normal scores",
}


def measure_scores(s: Floats, settings: Settings) -> dict[str, float]:
    """The distances of normal scores ``s`` (n, d) to N(0, I) in ``DEFINITIONS``; pairs on the first ``pair_rows``."""
    paired = s[: settings.pair_rows]
    energy, mmd = energy_and_mmd(paired)
    narrow = math.sqrt(max(bhep.statistic(paired), 0.0) / len(paired))
    return {"energy": energy, "mmd": mmd, "bhep": narrow, **moment_errors(s)}


def measure_slices(s: Floats, settings: Settings) -> dict[str, float]:
    """Sliced Wasserstein distance of normal scores ``s`` (n, d) to N(0, I), exact."""
    return mean_and_worst(squared_to_normal(s, directions(s.shape[1], settings.slices, seed=settings.seed)))


@functools.lru_cache(maxsize=64)
def score_floor(n: int, d: int, settings: Settings) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of ``measure_scores`` over sets of ``n`` true draws."""
    return _summarise([measure_scores(x, settings) for x in _true_sets(n, d, settings)])


@functools.lru_cache(maxsize=64)
def slice_floor(n: int, d: int, settings: Settings) -> dict[str, tuple[float, float]]:
    """The same of ``measure_slices``."""
    return _summarise([measure_slices(x, settings) for x in _true_sets(n, d, settings)])


def _true_sets(n: int, d: int, settings: Settings) -> Iterator[Floats]:
    return (generator(i, f"floor {n} {d}").standard_normal((n, d)) for i in range(settings.floor_sets))


def measure_own_scale(x: Floats, prior: Prior, settings: Settings, *, seed: int) -> dict[str, float]:
    """Sliced Wasserstein distance of ``x`` (n, d) to as many draws of ``prior``, in its own scale."""
    a = directions(prior.dim, settings.slices, seed=settings.seed)
    draws = prior.sample(len(x), seed=seed).astype(np.float64)
    return mean_and_worst(squared_to_sample(x, draws, a))


@functools.lru_cache(maxsize=64)
def own_scale_floor(n: int, prior: Prior, settings: Settings) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the same between two sets of ``n`` draws of ``prior``."""
    sets = []
    for i in range(settings.floor_sets):
        x = prior.sample(n, seed=2_000_003 + 2 * i).astype(np.float64)
        sets.append(measure_own_scale(x, prior, settings, seed=2_000_004 + 2 * i))
    return _summarise(sets)


def _summarise(sets: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    values = {name: np.array([measured[name] for measured in sets]) for name in sets[0]}
    return {name: (float(v.mean()), float(v.std(ddof=1))) for name, v in values.items()}


def distances(x: Floats, s: Floats, prior: Prior, epps_pulley: Distance, *, settings: Settings) -> Distances:
    """All distances of embeddings ``x`` (n, d) with normal scores ``s`` to ``prior``, with their floors."""
    n, d = s.shape
    values, floors = measure_scores(s, settings), score_floor(n, d, settings)
    few = min(n, settings.pair_rows)
    rows = dict.fromkeys(values, int(n)) | {"energy": few, "mmd": few, "bhep": few}
    entries = {
        name: _distance(value, floors[name], n=rows[name], definition=DEFINITIONS[name])
        for name, value in values.items()
    }
    return Distances(epps_pulley=epps_pulley, **sliced_wasserstein(x, s, prior, settings=settings), **entries)


def sliced_wasserstein(x: Floats, s: Floats, prior: Prior, *, settings: Settings) -> dict[str, Distance]:
    """``sw2`` and ``sw2_worst`` alone: of the normal scores ``s`` (n, d) where the prior is N(0, I), else of ``x``."""
    n, d = s.shape
    if prior.kind == "gaussian":
        values, floors = measure_slices(s, settings), slice_floor(n, d, settings)
        how = "one sample, exact, N(0, I)"
    else:
        n = min(n, max(1, settings.own_values // d))
        values = measure_own_scale(x[:n], prior, settings, seed=settings.seed + 1_000_003)
        floors = own_scale_floor(n, prior, settings)
        how = "against as many prior draws, the prior's own scale"
    slices = 1 if d == 1 else settings.slices
    definitions = {
        "sw2": f"Wasserstein-2, root mean square of {slices} random projections; {how}",
        "sw2_worst": f"Wasserstein-2, largest of {slices} random projections; {how}",
    }
    return {
        name: _distance(value, floors[name], n=n, definition=definitions[name])
        for name, value in values.items()
    }


def _distance(value: float, floor: tuple[float, float], *, n: int, definition: str) -> Distance:
    mean, sd = floor
    return Distance(
        value=value,
        floor=mean,
        floor_sd=sd,
        ratio=value / max(mean, np.finfo(np.float64).tiny),
        n=n,
        definition=definition,
    )
