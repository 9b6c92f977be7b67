"""Which law is promised to which embedding, and the noise that goes with it.

| construction            | promised to | battery on              | certificate on          |
|-------------------------|-------------|-------------------------|-------------------------|
| N(0, I), Gaussian noise | f(X)        | clean                   | clean, σ                |
| any law through F⁻¹ ∘ Φ | f(X)        | clean                   | normal scores, σ        |
| sphere, flow            | f(X)        | clean                   | normal scores, σ        |
| U([0,1]^d), sigmoid     | f(X) + Z    | noisy; clean as well    | clean, ε                |
| no noise                | f(X)        | clean                   | none, unless a σ is given |
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate.draws import generator
from nidim.priors import IndependentPrior, Prior, UniformPrior

Floats = NDArray[np.float64]

_EDGE = 8.25  # |Φ⁻¹| of the last double below 1: where a score outside the support is put
_VALUES = 1 << 18  # through a law's distribution function at a time


def is_sigmoid(prior: Prior) -> bool:
    """Whether the promise is about the noisy embedding on an enlarged support."""
    return isinstance(prior, UniformPrior) and prior.construction == "sigmoid"


def noisy_embeddings(
    clean: NDArray[np.floating],
    prior: Prior,
    *,
    sigma: float | None,
    epsilon: float | None,
    seed: int,
) -> Floats | None:
    """f(X) + Z for clean embeddings (n, d) in the scale in which noise is served; None without noise."""
    f = np.asarray(clean, dtype=np.float64)
    rng = generator(seed, "noisy embeddings")
    if epsilon is not None:
        noise = rng.uniform(-epsilon, epsilon, f.shape)
        return np.add(noise, f, out=noise)
    if sigma is None:
        return None
    noise = sigma * rng.standard_normal(f.shape)
    if prior.through_normal:
        return prior.from_normal_scores((prior.normal_scores(f) + noise) / math.hypot(1.0, sigma))
    return f + noise


def finite_scores(x: NDArray[np.floating], prior: Prior) -> tuple[Floats, float]:
    """Finite normal scores of ``x`` (n, d), and the share of values outside the support or at its edge."""
    if prior.kind == "gaussian":
        return prior.normal_scores(x), 0.0
    scores, outside = np.empty(x.shape), 0
    rows = max(1, _VALUES // x.shape[1])
    for i in range(0, len(x), rows):
        part = x[i : i + rows]
        found = prior.normal_scores(part)
        np.clip(found, -_EDGE, _EDGE, out=scores[i : i + rows])
        if isinstance(prior, IndependentPrior):
            u = prior.cdf(part)
            outside += int(((u <= 0) | (u >= 1)).sum())
        else:
            outside += int((~np.isfinite(found)).sum())
    return scores, outside / x.size
