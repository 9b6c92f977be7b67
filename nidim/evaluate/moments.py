"""Errors of the moments of normal scores (n, d) against those of N(0, I_d), and the effective rank.

    skewness m₃/m₂^{3/2} and excess kurtosis m₄/m₂² − 3 per coordinate (biased, as SciPy's default)
    effective rank e^H, H the entropy of the normalised eigenvalues of the covariance (Roy & Vetterli 2007)

A coordinate without variance has skewness, kurtosis and correlations 0: its variance error shows it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_COLUMNS = 64
_ROWS = 2048


def squared_norms(x: Floats) -> Floats:
    """‖x_i‖² of the rows of ``x`` (n, d); shape (n,)."""
    return np.einsum("id,id->i", x, x)


def mean_and_covariance(x: Floats) -> tuple[Floats, Floats]:
    """Mean (d,) and maximum-likelihood covariance (d, d) of ``x`` (n, d), some rows at a time."""
    n, d = x.shape
    mean, total = x.mean(axis=0), np.zeros((d, d))
    for i in range(0, n, _ROWS):
        centred = x[i : i + _ROWS] - mean
        total += centred.T @ centred
    return mean, total / n


def skew_and_kurtosis(x: Floats) -> tuple[Floats, Floats]:
    """Skewness and excess kurtosis per column of ``x`` (n, d)."""
    skew, kurtosis = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for i in range(0, x.shape[1], _COLUMNS):
        part = slice(i, i + _COLUMNS)
        centred = x[:, part] - x[:, part].mean(axis=0)
        squared = np.square(centred)
        m2, m3, m4 = squared.mean(axis=0), (squared * centred).mean(axis=0), np.square(squared).mean(axis=0)
        alive = m2 > 0
        m2 = np.where(alive, m2, 1.0)
        skew[part], kurtosis[part] = m3 / m2**1.5, np.where(alive, m4 / m2**2 - 3, 0.0)
    return skew, kurtosis


def correlations(covariance: Floats) -> Floats:
    """Off-diagonal correlations of a covariance (d, d); shape (d(d−1)/2,)."""
    sd = np.sqrt(np.diagonal(covariance))
    scale = np.where(sd > 0, sd, np.inf)
    upper = np.triu_indices(len(sd), 1)
    return (covariance / np.multiply.outer(scale, scale))[upper]


def effective_rank(covariance: Floats) -> float:
    """e^H of the eigenvalues of a covariance (d, d); 0 when all of it is zero."""
    return effective_rank_of(np.linalg.eigvalsh(covariance))


def effective_rank_of(spectrum: NDArray[np.floating]) -> float:
    """e^H of a spectrum (d,), its negative values (rounding) taken as 0; 0 when all of it is zero."""
    values = np.maximum(spectrum, 0.0)
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rms(x: Floats) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.square(x).mean()))


def largest(x: Floats) -> float:
    """Largest absolute value."""
    return float(np.abs(x).max())


def moment_errors(x: Floats) -> dict[str, float]:
    """Every error of this module for ``x`` (n, d), n at least 2; no correlations for d = 1."""
    mean, covariance = mean_and_covariance(x)
    variance = np.diagonal(covariance) - 1
    skew, kurtosis = skew_and_kurtosis(x)
    errors = {
        "mean_rms": rms(mean),
        "mean_max": largest(mean),
        "variance_rms": rms(variance),
        "variance_max": largest(variance),
        "skewness_rms": rms(skew),
        "kurtosis_rms": rms(kurtosis),
        "effective_rank": effective_rank(covariance),
    }
    if x.shape[1] > 1:
        off = correlations(covariance)
        errors |= {"correlation_rms": rms(off), "correlation_max": largest(off)}
    return errors
