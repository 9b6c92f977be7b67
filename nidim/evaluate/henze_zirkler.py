"""The Henze–Zirkler test of multivariate normality with fitted moments, batched over subsamples.

For m points in R^d with maximum-likelihood covariance S, D_ij the squared Mahalanobis distance between two
points, D_i that to the mean, and β = ((2d+1)m/4)^{1/(d+4)} / √2:

    HZ = m·( 1/m² Σ_ij e^{−β²D_ij/2} − 2(1+β²)^{−d/2} 1/m Σ_i e^{−β²D_i/(2(1+β²))} + (1+2β²)^{−d/2} )

and HZ = 4m where S is singular. p from the log-normal law with HZ's mean and variance under normality.

*Protocol*: mean p over K random subsamples of 64 of the held-out embeddings. Its mean on true Gaussians falls
with d (.496 at d=2, .147 at d=32), so a value means nothing without the same protocol on true draws: the match
fails where the rank of the mean p among theirs is below 5 %. From d=64 on S is always singular.

Reference: Henze & Zirkler 1990, "A class of invariant consistent tests for multivariate normality".
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nidim.evaluate.draws import generator
from nidim.evaluate.pairs import gaussian_sum, gaussian_sums
from nidim.evaluate.report import ALPHA, HenzeZirkler

Floats = NDArray[np.float64]

SIZE = 64
"""Embeddings in a subsample."""
CELLS = 20
_CHUNK = 1 << 17  # entries of the (K, m, m) distances held at a time: they stay in the cache
_SINGULAR = 1e-10
_WHOLE = 1024
"""Points up to which all pairs of a set are one array."""
NULL_SETS = 40
"""Sets of true draws among which a set has its rank: by their chance, its level lies between .02 and .08 or so."""


def henze_zirkler(x: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """HZ and p of each set, for ``x`` (..., m, d); both of shape (...). d must be below m."""
    *_, m, d = x.shape
    if d >= m:
        raise ValueError(f"x: Henze–Zirkler needs more points than dimensions, got shape {x.shape}")
    whitened, singular = _whiten(np.asarray(x, dtype=np.float64))
    statistic = np.where(singular, 4.0 * m, _statistic(whitened))
    return statistic, _p_value(statistic, m, d)


def beta2(m: int, d: int) -> float:
    """β² of the kernel for m points in R^d."""
    return 0.5 * ((2 * d + 1) * m / 4) ** (2 / (d + 4))


def _whiten(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Points with zero mean and unit ML covariance, and whether that covariance was singular."""
    centred = x - x.mean(axis=-2, keepdims=True)
    q, r = np.linalg.qr(centred)
    diagonal = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    scale = np.sqrt(np.square(x).sum(axis=(-2, -1)))
    return q * math.sqrt(x.shape[-2]), (diagonal <= _SINGULAR * scale[..., None]).any(axis=-1)


def _statistic(y: Floats) -> Floats:
    *sets, m, d = y.shape
    if m > _WHOLE:
        each = [distance(one, beta2(m, d)) for one in y.reshape(-1, m, d)]
        return np.array(each).reshape(sets)
    b2 = beta2(m, d)
    pairs = gaussian_sums(y, b2) / m
    cross = np.exp(-b2 / (2 * (1 + b2)) * np.square(y).sum(axis=-1)).sum(axis=-1)
    return pairs - 2 * (1 + b2) ** (-d / 2) * cross + m * (1 + 2 * b2) ** (-d / 2)


def distance(y: Floats, b2: float) -> float:
    """HZ of whitened points ``y`` (m, d) for any β², with no m×m array: m times the distance of the laws."""
    m, d = y.shape
    pairs = gaussian_sum(y, b2)
    cross = float(np.exp(-b2 / (2 * (1 + b2)) * np.square(y).sum(axis=1)).sum())
    return pairs / m - 2 * (1 + b2) ** (-d / 2) * cross + m * (1 + 2 * b2) ** (-d / 2)


def _p_value(statistic: Floats, m: int, d: int) -> Floats:
    b2 = beta2(m, d)
    b4, a, w = b2 * b2, 1 + 2 * b2, (1 + b2) * (1 + 3 * b2)
    mean = 1 - a ** (-d / 2) * (1 + d * b2 / a + d * (d + 2) * b4 / (2 * a * a))
    variance = (
        2 * (1 + 4 * b2) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b4 / a**2 + 3 * d * (d + 2) * b4**2 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b4 / (2 * w) + d * (d + 2) * b4**2 / (2 * w * w))
    )
    spread = math.log1p(variance / mean**2)
    centre = math.log(mean) - spread / 2
    positive = np.maximum(statistic, np.finfo(np.float64).tiny)
    return special.ndtr(-(np.log(positive) - centre) / math.sqrt(spread))


def subsample_p(x: NDArray[np.floating], *, subsamples: int, seed: int) -> Floats:
    """p of ``subsamples`` random subsamples of 64 rows of ``x`` (n, d), drawn without replacement each."""
    rng = generator(seed, "henze-zirkler subsamples")
    rows = np.stack([rng.choice(len(x), SIZE, replace=False) for _ in range(subsamples)])
    step = max(1, _CHUNK // (SIZE * SIZE))
    return np.concatenate([henze_zirkler(x[rows[i : i + step]])[1] for i in range(0, subsamples, step)])


@functools.lru_cache(maxsize=64)
def null_p(d: int, n: int, subsamples: int, count: int = NULL_SETS) -> Floats:
    """The protocol's p on independent sets of n true draws, shape (sets, subsamples); computed once."""
    sets = []
    for seed in range(count):
        draws = generator(seed, f"henze-zirkler null {n} {d}").standard_normal((n, d))
        sets.append(subsample_p(draws, subsamples=subsamples, seed=seed))
    values = np.stack(sets)
    values.setflags(write=False)
    return values


def why_not(n: int, d: int) -> str | None:
    """Why the protocol cannot be run, or None."""
    if d >= SIZE:
        return f"Henze–Zirkler on subsamples of {SIZE} is singular from d = {SIZE} on; see the sliced tests"
    if n < SIZE:
        return f"Henze–Zirkler takes subsamples of {SIZE}; there are {n} held-out embeddings"
    return None


def protocol(
    x: NDArray[np.floating], *, subsamples: int = 1024, seed: int = 0, null_sets: int = NULL_SETS
) -> HenzeZirkler:
    """The protocol on ``x`` (n, d), beside the same on ``null_sets`` sets of true draws. Ask :func:`why_not` first."""
    n, d = x.shape
    p, null = subsample_p(x, subsamples=subsamples, seed=seed), null_p(d, n, subsamples, null_sets)
    means = null.mean(axis=1)
    centre, spread = float(means.mean()), float(means.std(ddof=1))
    rank = 1 + int((means <= p.mean()).sum())
    cells = np.histogram(p, bins=CELLS, range=(0, 1))[0]
    expected = np.histogram(null, bins=CELLS, range=(0, 1))[0] / len(null)
    return HenzeZirkler(
        p=float(p.mean()),
        p_null=centre,
        p_null_sd=spread,
        reject=float((p < ALPHA).mean()),
        reject_null=float((null < ALPHA).mean()),
        below_null=rank / (1 + null_sets) < ALPHA,
        subsamples=subsamples,
        size=SIZE,
        histogram=tuple(int(c) for c in cells),
        histogram_null=tuple(float(c) for c in expected),
    )
