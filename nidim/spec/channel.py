"""Plain arithmetic of the noisy channel: its capacity, the noise that gives one, what a sample can certify. In nats.

    f with zero mean and unit variance, Z ~ N(0, σ²I_d):      I(f(X); f(X)+Z) ≤ C = d/2 · log(1 + 1/σ²)
    f with support [0, 1]^d,            Z ~ U([−ε, ε]^d):     I(f(X); f(X)+Z) ≤ C = d · log(1 + 1/(2ε))

The second is reached where 1/(2ε) is whole. Beyond ε = .5 it is not: a coordinate then carries log 2/(2ε), by
embeddings at the corners of the cube (Oettli 1974).

References: arXiv 2410.06993; W. Oettli, Capacity-achieving input distributions for some amplitude-limited channels with
additive noise, IEEE Trans. Inf. Theory 20 (1974); for the ceiling log n of sample bounds, McAllester & Stratos 2020.
"""

from __future__ import annotations

import math

SLACK_PER_DIM = 0.25
"""Nats per dimension above log n from which a certificate is out of reach."""
LEAST_HELDOUT = 64
"""Held-out images from which there is a certificate: two for each block of its jackknife."""
MOST_HELDOUT = 1 << 16
"""Held-out images that a certificate compares at most, each with all others."""


def gaussian_capacity(dim: int, sigma: float) -> float:
    """d/2 · log(1 + 1/σ²), nats, ∞ without noise; ``dim`` = d, ``sigma`` = σ in units of the embedding's deviation."""
    if sigma == 0:
        return math.inf
    return dim / 2 * math.log1p(sigma**-2)


def uniform_capacity(dim: int, epsilon: float) -> float:
    """d · log(1 + 1/(2ε)), nats, ∞ without noise; ``epsilon`` = ε in units of the support [0, 1]."""
    if epsilon == 0:
        return math.inf
    return dim * math.log1p(1 / (2 * epsilon))


def sigma_for(dim: int, capacity_nats: float) -> float:
    """The σ at which d/2 · log(1 + 1/σ²) is ``capacity_nats`` > 0."""
    return 1 / math.sqrt(math.expm1(2 * capacity_nats / dim))


def epsilon_for(dim: int, capacity_nats: float) -> float:
    """The ε at which d · log(1 + 1/(2ε)) is ``capacity_nats`` > 0."""
    return 1 / (2 * math.expm1(capacity_nats / dim))


def ceiling(n_heldout: int) -> float:
    """log n: what so many held-out images can show at most, nats."""
    return math.log(min(n_heldout, MOST_HELDOUT))


def certifiable(dim: int, n_heldout: int) -> float:
    """The largest capacity, nats, of which n held-out images can show all but ``SLACK_PER_DIM`` a dimension."""
    return ceiling(n_heldout) + SLACK_PER_DIM * dim
