"""Statistics over all pairs of points, in blocks: energy distance and maximum mean discrepancy to N(0, I).

One sample against the law itself, expectations over Z, Z' ~ N(0, I_d) in closed form:

    energy²(x) = 2/n Σ_i E‖x_i − Z‖ − E‖Z − Z'‖ − 1/n² Σ_ij ‖x_i − x_j‖
    MMD²(x)    = 1/n² Σ_ij k(x_i, x_j) − 2/n Σ_i E k(x_i, Z) + E k(Z, Z'),   k(x, y) = e^{−‖x−y‖²/2h²}, h² = d

    E k(x, Z) = (h²/(h²+1))^{d/2} e^{−‖x‖²/(2(h²+1))}     E k(Z, Z') = (h²/(h²+2))^{d/2}
    E‖x − Z‖  = 1/(2√π) ∫_0^∞ (1 − E e^{−s‖x−Z‖²}) s^{−3/2} ds

(the last through E e^{−s‖x−Z‖²} = (1+2s)^{−d/2} e^{−s‖x‖²/(1+2s)}: SciPy's ₁F₁ overflows at d = 512).

As a test, the energy distance is taken between the embeddings and as many true draws: under the promise the
two sets are exchangeable, so the p-value over random relabellings is exact in every dimension.

References: Székely & Rizzo 2005, 2013; Gretton et al. 2012.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Outcome

Floats = NDArray[np.float64]
Kernel = Callable[[Floats], Floats]

_ENTRIES = 1 << 18  # squared distances held at a time: they stay in the cache
_LEAST_QUARTER = 16  # points a side: below, calls cost more than exponentials
_SIDE = 70.0  # the integrand falls as e^{−|y|/2} in y = log s


def squared_distances(x: Floats, y: Floats) -> Iterator[tuple[slice, Floats]]:
    """‖x_i − y_j‖² for some rows of ``x`` (n, d) at a time, each block (rows, m) for ``y`` (m, d)."""
    rows = max(1, _ENTRIES // len(y))
    own = np.square(y).sum(axis=1)
    for i in range(0, len(x), rows):
        part = slice(i, min(i + rows, len(x)))
        block = x[part] @ y.T
        block *= -2
        block += own
        block += np.square(x[part]).sum(axis=1)[:, None]
        yield part, np.maximum(block, 0.0, out=block)


def sums_over_pairs(x: Floats, *kernels: Kernel) -> list[float]:
    """Σ_ij k(‖x_i − x_j‖²) over all ordered pairs of rows of ``x`` (n, d), i = j too, for each kernel.

    Blocks on and above the diagonal alone, those above counted twice; memory does not grow with n². A kernel maps a
    block of squared distances to a new array, the last one may do so in place.
    """
    totals = [0.0] * len(kernels)
    own = np.square(x).sum(axis=1)
    for start, stop in _strips(len(x)):
        block = x[start:stop] @ x[start:].T
        block *= -2
        block += own[start:]
        block += own[start:stop, None]
        np.maximum(block, 0.0, out=block)
        for number, kernel in enumerate(kernels):
            totals[number] += _both_halves(kernel(block))
    return totals


def _strips(n: int) -> Iterator[tuple[int, int]]:
    """Rows [start, stop) of the upper half of an n×n matrix, its columns from ``start`` on, a block at a time."""
    start = 0
    while start < n:
        stop = min(n, start + max(1, _ENTRIES // (n - start)))
        yield start, stop
        start = stop


def _both_halves(strip: Floats) -> float:
    """The sum over a strip and what mirrors it: the square at its left lies on the diagonal and counts once."""
    return 2 * float(strip.sum()) - float(strip[:, : len(strip)].sum())


def exponents(x: Floats, b2: float) -> tuple[Floats, Floats]:
    """L, R (..., n, d+2) with L Rᵀ = −b2‖x_i − x_j‖²/2 of ``x`` (..., n, d): one product, no passes after it."""
    scaled = math.sqrt(b2) * x
    own = -np.square(scaled).sum(axis=-1, keepdims=True) / 2
    ones = np.ones_like(own)
    return np.concatenate([scaled, own, ones], axis=-1), np.concatenate([scaled, ones, own], axis=-1)


def gaussian_sum(x: Floats, b2: float) -> float:
    """Σ_ij e^{−b2‖x_i − x_j‖²/2} over all ordered pairs of rows of ``x`` (n, d), i = j too; memory as above."""
    left, right = exponents(x, b2)
    total = 0.0
    for start, stop in _strips(len(x)):
        block = left[start:stop] @ right[start:].T
        np.minimum(block, 0.0, out=block)  # of points far from the origin rounding makes any number of it
        total += _both_halves(np.exp(block, out=block))
    return total


def gaussian_sums(x: Floats, b2: float) -> Floats:
    """:func:`gaussian_sum` of each of many small sets ``x`` (..., n, d), shape (...); all pairs of a set at a time."""
    return _sums(*exponents(x, b2))


def _sums(left: Floats, right: Floats) -> Floats:
    """Σ exp(L Rᵀ), L Rᵀ symmetric: of its upper right quarter twice, and the same of the two on the diagonal."""
    *sets, n, k = left.shape
    half = n // 2
    if n % 2 or half < _LEAST_QUARTER:
        block = left @ np.swapaxes(right, -1, -2)
        return np.exp(block, out=block).sum(axis=(-2, -1))
    across = left[..., :half, :] @ np.swapaxes(right[..., half:, :], -1, -2)
    halves = (values.reshape(*sets, 2, half, k) for values in (left, right))
    return 2 * np.exp(across, out=across).sum(axis=(-2, -1)) + _sums(*halves).sum(axis=-1)


def mean_distance_to_normal(squared_norms: Floats, d: int) -> Floats:
    """E‖x − Z‖, Z ~ N(0, I_d), for given ‖x‖² (n,): trapezoidal rule in log s, exact to rounding."""
    y = np.arange(-_SIDE, _SIDE, 0.5)
    s = np.exp(y)
    exponent = -d / 2 * np.log1p(2 * s) - np.multiply.outer(squared_norms, s / (1 + 2 * s))
    return -np.expm1(exponent) @ np.exp(-y / 2) * 0.5 / (2 * math.sqrt(math.pi))


def energy_and_mmd(x: Floats) -> tuple[float, float]:
    """Energy distance and MMD of ``x`` (n, d) to N(0, I), both as roots: in units of a distance."""
    n, d = x.shape
    kernel, distance = sums_over_pairs(
        x, lambda block: np.exp(block / (-2 * d)), lambda block: np.sqrt(block, out=block)
    )
    norms = np.square(x).sum(axis=1)
    to_law = float(mean_distance_to_normal(norms, d).mean())
    within_law = 2 * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    energy = 2 * to_law - within_law - distance / n**2
    to_law_kernel = (d / (d + 1)) ** (d / 2) * float(np.exp(-norms / (2 * (d + 1))).mean())
    mmd = kernel / n**2 - 2 * to_law_kernel + (d / (d + 2)) ** (d / 2)
    return math.sqrt(max(energy, 0.0)), math.sqrt(max(mmd, 0.0))


def energy_test(x: Floats, *, permutations: int, seed: int) -> Outcome:
    """Two-sample energy test of ``x`` (n, d) against n true draws of N(0, I); p exact over relabellings."""
    n, d = x.shape
    rng = generator(seed, "energy test")
    pooled = np.concatenate([x, rng.standard_normal((n, d))])
    labels = np.repeat(np.array([1 / n, -1 / n], dtype=np.float32), n)
    relabelled = np.stack([labels, *(rng.permutation(labels) for _ in range(permutations))], axis=1)
    usual = math.sqrt(2 * float(np.square(pooled - pooled.mean(axis=0)).sum(axis=1).mean()))
    values = np.zeros(1 + permutations)
    for part, block in squared_distances(pooled, pooled):
        distances = np.sqrt(block, out=block)
        distances -= usual  # changes no statistic (labels sum to zero), keeps float32 exact enough
        values -= np.einsum(
            "ik,ik->k", relabelled[part], distances.astype(np.float32) @ relabelled, dtype=np.float64
        )
    p = float((values >= values[0] * (1 - 1e-6)).mean())
    method = f"two-sample energy, {n} true draws, {permutations} relabellings"
    return Outcome.of(max(values[0], 0.0), p, n=n, method=method)
