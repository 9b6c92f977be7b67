"""Tests of the promise itself: normal scores s (n, d) against N(0, I_d), no moment fitted.

    ks          D_k = sup |F_n − Φ| per coordinate with its exact p_k;  −2 Σ log p_k ~ χ²_2d (Fisher: the
                coordinates are independent under the promise)
    chi2        Pearson's χ² over B equally likely cells per coordinate, summed ~ χ²_{d(B−1)}
    mean        n‖mean‖² ~ χ²_d, exact
    covariance  n/2 ‖S − I‖²_F, S = sᵀs/n: mean exactly d(d+1)/2; gamma law with variance d(d+1) + 2d³/n, the
                second term from the limit d/n -> c of Ledoit & Wolf 2002
    radius      Kolmogorov–Smirnov of ‖s‖² against χ²_d: is the outlier score p_value(x) uniform?

Any law with independent coordinates is tested so, through s = Φ⁻¹(F(x)): KS and χ² do not change under it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from nidim.evaluate.moments import squared_norms
from nidim.evaluate.report import Outcome

Floats = NDArray[np.float64]

CELLS = 32
_COLUMNS = 32
_LOG_TINY = -700.0


def ks_statistic(u: Floats) -> Floats:
    """sup |F_n − uniform| per column of ``u`` (n, d) in [0, 1]; shape (d,)."""
    n = len(u)
    ordered = np.sort(u, axis=0)
    steps = np.arange(n + 1)[:, None] / n
    above = (steps[1:] - ordered).max(axis=0)
    return np.maximum(above, (ordered - steps[:-1]).max(axis=0))


def ks(s: Floats) -> Outcome:
    """Kolmogorov–Smirnov per coordinate of ``s`` (n, d) against Φ, Fisher-combined; statistic: worst D."""
    n, d = s.shape
    blocks = range(0, d, _COLUMNS)
    distances = np.concatenate([ks_statistic(special.ndtr(s[:, i : i + _COLUMNS])) for i in blocks])
    p = stats.kstwo.sf(distances, n)
    logs = np.where(p > 0, np.log(np.maximum(p, np.finfo(float).tiny)), _LOG_TINY)
    return Outcome.of(
        distances.max(),
        special.chdtrc(2 * d, -2 * logs.sum()),
        n=n,
        method="worst D of the coordinates; p: exact per coordinate, Fisher-combined",
    )


def chi2(s: Floats) -> Outcome:
    """Pearson's χ² of Φ(s) over equally likely cells, summed over the coordinates of ``s`` (n, d)."""
    n, d = s.shape
    cells = int(max(2, min(CELLS, n // 10)))
    total = 0.0
    for i in range(0, d, _COLUMNS):
        cell = np.minimum((special.ndtr(s[:, i : i + _COLUMNS].T) * cells).astype(np.int64), cells - 1)
        counts = np.stack([np.bincount(column, minlength=cells) for column in cell])
        total += float(np.square(counts - n / cells).sum() * cells / n)
    freedom = d * (cells - 1)
    return Outcome.of(
        total, special.chdtrc(freedom, total), n=n, method=f"{cells} cells per coordinate, χ²({freedom})"
    )


def mean(s: Floats) -> Outcome:
    """n‖mean‖² of ``s`` (n, d) against χ²_d."""
    n, d = s.shape
    statistic = n * float(np.square(s.mean(axis=0)).sum())
    return Outcome.of(statistic, special.chdtrc(d, statistic), n=n, method=f"n‖mean‖² ~ χ²({d})")


def covariance(s: Floats) -> Outcome:
    """n/2 ‖sᵀs/n − I‖² of ``s`` (n, d): variances and correlations at once."""
    n, d = s.shape
    statistic = n / 2 * float(np.square(s.T @ s / n - np.eye(d)).sum())
    centre, variance = d * (d + 1) / 2, d * (d + 1) + 2 * d**3 / n
    p = special.gammaincc(centre**2 / variance, statistic * centre / variance)
    return Outcome.of(statistic, p, n=n, method="n/2‖S − I‖², gamma law with the exact mean")


def radius(s: Floats) -> Outcome:
    """Kolmogorov–Smirnov of ‖s‖² against χ²_d, for ``s`` (n, d)."""
    n, d = s.shape
    u = special.chdtr(d, squared_norms(s))
    distance = float(ks_statistic(u[:, None])[0])
    return Outcome.of(distance, stats.kstwo.sf(distance, n), n=n, method=f"KS of ‖s‖² against χ²({d})")
