"""Noise on request: f(x) + Z as it is served. No torch.

Z comes from the counter-based stream, so row i of a request depends on (seed, i) alone; training draws its own
(:mod:`nidim.noise`).

For a law that is a map of the Gaussian latent, noise lives in that latent: with e = g(f), the noisy embedding is
g((f + Z)/√(1+σ²)), which follows the law when f is standard normal. The latent of an embedding is its normal scores; of
a point on the sphere their length is drawn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nidim.capacity import Resolved
from nidim.priors import Prior
from nidim.streams import NOISE_DRAWS, uniform53


def add_noise(
    embeddings: NDArray[np.floating], prior: Prior, resolved: Resolved, *, seed: int, offset: int = 0
) -> NDArray[np.float32]:
    """f(x) + Z for clean embeddings (n, d) of the law ``prior``, float32; row i uses row offset + i of the stream.

    Without noise in ``resolved`` the embeddings come back unchanged. Raises ValueError for another shape.
    """
    clean = prior.rows(embeddings)
    if len(clean) == 0 or (resolved.sigma is None and resolved.epsilon is None):
        return clean.astype(np.float32)
    rows = (offset, offset + len(clean))
    uniform = uniform53(seed, rows=rows, d=clean.shape[1], domain=NOISE_DRAWS)
    if resolved.epsilon is not None:
        return (clean + resolved.epsilon * (2 * uniform - 1)).astype(np.float32)
    noise = (resolved.sigma or 0.0) * special.ndtri(uniform)
    if prior.through_normal:
        latent = (prior.normal_scores(clean) + noise) / math.hypot(1.0, resolved.sigma or 0.0)
        return prior.from_normal_scores(latent).astype(np.float32)
    return (clean + noise).astype(np.float32)
