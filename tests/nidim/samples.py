"""Samples of laws that no formula of ours has, and a flow that is fitted to one of them once for all processes."""

from __future__ import annotations

import fcntl
import functools
from pathlib import Path

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


kept_in: list[Path] = []
"""The folder that all processes of this run share, where there is one; see ``conftest.py``."""


@functools.cache
def fitted_arc() -> FlowPrior:
    """The flow of 600 points of the arc."""
    if not kept_in:
        return fit_prior(arc(600))
    kept = kept_in[-1] / "arc.safetensors"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(fit_prior(arc(600)).data)
    return FlowPrior.read(kept.read_bytes())
