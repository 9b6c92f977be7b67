"""Sliced Wasserstein-2: over random unit vectors a, the W2 between the law of aᵀX and that of the prior.

Gaussian, one sample, exact: with order statistics x_(i) and q_i = Φ⁻¹(i/n),

    W2²(F_n, N(0, 1)) = mean x² + 1 − 2 Σ_i x_(i) (φ(q_{i−1}) − φ(q_i))

Any other law, in its own scale, two samples of equal size: mean of (x_(i) − y_(i))², y as many true draws.
SW2 is the root of the mean of W2² over the directions; the worst projection is the largest W2.

References: Rabin et al. 2011; Bonneel et al. 2015.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

_SLICES = 16


def _sorted_projections(x: Floats, a: Floats) -> Iterator[Floats]:
    """Projections of ``x`` (n, d), a few directions at a time, each sorted: rows of (slices, n)."""
    for i in range(0, a.shape[1], _SLICES):
        yield np.sort(a[:, i : i + _SLICES].T @ x.T, axis=1)


def quantile_weights(n: int) -> Floats:
    """φ(q_{i−1}) − φ(q_i): the mean of N(0, 1) over the i-th of n equally likely cells, divided by n."""
    q = special.ndtri(np.arange(1, n) / n)
    density = np.concatenate([[0.0], np.exp(-(q**2) / 2) / math.sqrt(2 * math.pi), [0.0]])
    return density[:-1] - density[1:]


def squared_to_normal(x: Floats, a: Floats) -> Floats:
    """W2² to N(0, 1) for each column of ``a`` (d, L), exact; shape (L,)."""
    weights = quantile_weights(len(x))
    parts = [np.square(rows).mean(axis=1) + 1 - 2 * rows @ weights for rows in _sorted_projections(x, a)]
    return np.maximum(np.concatenate(parts), 0.0)


def squared_to_sample(x: Floats, y: Floats, a: Floats) -> Floats:
    """W2² between projections of ``x`` and ``y``, both (n, d), for each column of ``a``; shape (L,)."""
    if len(x) != len(y):
        raise ValueError(f"x and y must have equally many rows, got {x.shape} and {y.shape}")
    pairs = zip(_sorted_projections(x, a), _sorted_projections(y, a), strict=True)
    return np.concatenate([np.square(rows - others).mean(axis=1) for rows, others in pairs])


def mean_and_worst(squared: Floats) -> dict[str, float]:
    """SW2 and the worst projection from W2² of the slices."""
    return {"sw2": math.sqrt(float(squared.mean())), "sw2_worst": math.sqrt(float(squared.max()))}
