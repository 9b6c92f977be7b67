"""Tests of the shape alone, moments fitted: Mardia for the whole, three classics per coordinate.

Mardia, with y whitened by the maximum-likelihood moments:

    b₁ = 1/n² Σ_ij (y_iᵀy_j)³     n·b₁·k/6 ~ χ², d(d+1)(d+2)/6 degrees of freedom, k makes the mean exact
    b₂ = 1/n Σ_i ‖y_i‖⁴           normal with its exact mean and variance under normality

The χ² law needs more points than degrees of freedom; beyond, skewness is left out. Per coordinate:
Shapiro–Wilk (on at most 5,000 points, the range of its approximation), D'Agostino–Pearson K²,
Anderson–Darling with the p-value of D'Agostino & Stephens 1986. A coordinate without variance has p = 0.

Over d coordinates a test rejects by Bonferroni, so it needs a p that is right at .05/d. That of K² is not: skewness and
kurtosis of a sample are uncorrelated but not independent, and at d = 128 and n = 1000 true draws would be rejected 13
times in 100. D'Agostino–Pearson therefore decides by the smaller p of its two parts, doubled.

References: Mardia 1970, 1974; Shapiro & Wilk 1965; D'Agostino & Pearson 1973; D'Agostino & Stephens 1986.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from nidim.evaluate.moments import mean_and_covariance, squared_norms
from nidim.evaluate.report import ALPHA, Marginals, Outcome

Floats = NDArray[np.float64]

SHAPIRO_MAX = 5000
_BLOCK = 2048
_COLUMNS = 32
AT_A_TIME, MOST_SETS = 1000, 10
"""Embeddings of a smaller set that is tested by itself: the more there are, the smaller a departure that is told."""


def whiten(x: Floats) -> Floats | None:
    """``x`` (n, d) with zero mean and unit ML covariance, or None where that covariance is singular."""
    mean, covariance = mean_and_covariance(x)
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= 1e-12 * max(values[-1], np.finfo(np.float64).tiny):
        return None
    white, to_white = np.empty(x.shape), vectors / np.sqrt(values)
    for i in range(0, len(x), _BLOCK):
        white[i : i + _BLOCK] = (x[i : i + _BLOCK] - mean) @ to_white
    return white


def mardia_skewness_statistic(y: Floats) -> float:
    """b₁ of whitened ``y`` (n, d): by third moments where d is small, else by blocks of inner products."""
    n, d = y.shape
    if d * d <= n:
        third = np.zeros((d * d, d))
        for i in range(0, n, _BLOCK):
            rows = y[i : i + _BLOCK]
            third += (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1).T @ rows
        return float(np.square(third / n).sum())
    return sum(float(((y[i : i + _BLOCK] @ y.T) ** 3).sum()) for i in range(0, n, _BLOCK)) / n**2


def mardia_skewness(y: Floats) -> Outcome | None:
    """Mardia's skewness test of whitened ``y`` (n, d); None where its law is not reached: too few points."""
    n, d = y.shape
    freedom = d * (d + 1) * (d + 2) / 6
    if n < max(freedom, 8):
        return None
    exact_mean = (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))
    statistic = n * mardia_skewness_statistic(y) * exact_mean / 6
    return Outcome.of(
        statistic, special.chdtrc(freedom, statistic), n=n, method=f"n·b₁·k/6 ~ χ²({freedom:.0f})"
    )


def mardia_kurtosis(y: Floats) -> Outcome | None:
    """Mardia's kurtosis test of whitened ``y`` (n, d), two-sided; None for n <= d + 1."""
    n, d = y.shape
    if n <= max(d + 1, 8):
        return None
    b2 = float(np.square(squared_norms(y)).mean())
    mean = d * (d + 2) * (n - 1) / (n + 1)
    variance = 8 * d * (d + 2) * (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    z = (b2 - mean) / np.sqrt(variance)
    return Outcome.of(z, 2 * special.ndtr(-abs(z)), n=n, method="(b₂ − mean)/sd, exact moments, normal")


def anderson_darling(x: Floats) -> tuple[Floats, Floats]:
    """A² with fitted mean and variance, and its p, per coordinate of ``x`` (n, d)."""
    n = len(x)
    z = np.sort((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), axis=0)
    weights = (2 * np.arange(1, n + 1) - 1)[:, None]
    a2 = -n - (weights * (special.log_ndtr(z) + special.log_ndtr(-z[::-1]))).sum(axis=0) / n
    return a2, _anderson_p(a2 * (1 + 0.75 / n + 2.25 / n**2))


def _anderson_p(a: Floats) -> Floats:
    a = np.minimum(a, 10.0)  # the fit is a parabola: beyond, p is below 1e-20 and would turn up again
    return np.select(
        [a < 0.2, a < 0.34, a < 0.6],
        [
            1 - np.exp(-13.436 + 101.14 * a - 223.73 * a**2),
            1 - np.exp(-8.318 + 42.796 * a - 59.938 * a**2),
            np.exp(0.9177 - 4.279 * a - 1.38 * a**2),
        ],
        default=np.exp(1.2937 - 5.709 * a + 0.0186 * a**2),
    )


def shapiro_p(x: Floats) -> Floats:
    """Shapiro–Wilk's p per coordinate of ``x`` (n, d), on its first 5,000 rows."""
    return np.array([stats.shapiro(column).pvalue for column in x[:SHAPIRO_MAX].T])


def dagostino_p(x: Floats) -> Floats:
    """p of D'Agostino–Pearson's K² per coordinate of ``x`` (n, d)."""
    return np.asarray(stats.normaltest(x, axis=0).pvalue)


def dagostino_parts_p(x: Floats) -> Floats:
    """Twice the smaller p of the tests of skewness and of kurtosis that K² is made of, at most 1, per coordinate."""
    parts = stats.skewtest(x, axis=0).pvalue, stats.kurtosistest(x, axis=0).pvalue
    return np.minimum(2 * np.minimum(*parts), 1.0)


def marginals(
    x: Floats,
    p_values: Callable[[Floats], Floats],
    *,
    decided_by: Callable[[Floats], Floats] | None = None,
    rows: int | None = None,
) -> Marginals:
    """One test over the coordinates of ``x`` (n, d), whose rows are in random order.

    ``decided_by``: the p of the flag, where that is not the p that is shown.
    """
    n, d = x.shape
    p = _by_columns(x, p_values)
    deciding = _by_columns(x, decided_by) if decided_by else p
    worst = int(p.argmin())
    sets = [x[i * AT_A_TIME : (i + 1) * AT_A_TIME] for i in range(min(n // AT_A_TIME, MOST_SETS))]
    shares = [(_by_columns(rows, p_values) >= ALPHA).mean() for rows in sets]
    return Marginals(
        pass_share=float((p >= ALPHA).mean()),
        worst_coordinate=worst,
        worst_p=float(p[worst]),
        reject=bool(deciding.min() * d < ALPHA),
        n=min(n, rows or n),
        pass_share_of_1000=float(np.mean(shares)) if shares else None,
    )


def _by_columns(x: Floats, p_values: Callable[[Floats], Floats]) -> Floats:
    """p of every coordinate, a few columns at a time; 0 where nothing varies."""
    p = np.zeros(x.shape[1])
    alive = np.flatnonzero(np.ptp(x, axis=0) > 0)
    for i in range(0, len(alive), _COLUMNS):
        columns = alive[i : i + _COLUMNS]
        p[columns] = p_values(x[:, columns])
    return p


def all_marginals(x: Floats) -> dict[str, Marginals]:
    """The three classics on ``x`` (n, d), n at least 8."""
    return {
        "shapiro": marginals(x, shapiro_p, rows=SHAPIRO_MAX),
        "dagostino": marginals(x, dagostino_p, decided_by=dagostino_parts_p),
        "anderson": marginals(x, lambda block: anderson_darling(block)[1]),
    }
