"""Samples of laws that no formula of ours has, and flows that are fitted to them once a process."""

from __future__ import annotations

import functools

import numpy as np

from nidim.priors import FlowPrior, fit_prior


def arc(n: int, *, seed: int = 0) -> np.ndarray:
    """(n, 2): half of a ring, r (cos θ, sin θ) with θ ~ U(0, π), r ~ N(1, .15²)."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, np.pi, n), rng.normal(1, 0.15, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def arc_log_density(x: np.ndarray) -> np.ndarray:
    """log p of the above, nats; the negligible radii below 0 left out."""
    radius = np.hypot(*x.T)
    return -np.square((radius - 1) / 0.15) / 2 - np.log(0.15 * np.sqrt(2 * np.pi) * np.pi * radius)


@functools.cache
def fitted_arc() -> FlowPrior:
    """The flow of 600 points of the arc."""
    return fit_prior(arc(600))
