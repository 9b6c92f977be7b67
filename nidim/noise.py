"""Noise on the normalised embedding: drawn in training, and served on request.

Training draws Z with torch on the training device (:func:`draw`). Serving draws it from the counter-based
stream (:func:`add_noise`), so row i of a request depends on (seed, i) alone.

For a law F that is a map of the Gaussian latent, noise lives in that latent: with e = F⁻¹(Φ(f)), the noisy embedding
is F⁻¹(Φ((f + Z)/√(1+σ²))), which follows F when f is standard normal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from nidim.capacity import Resolved
from nidim.priors import make_prior
from nidim.spec import FullSpec
from nidim.streams import NOISE_DRAWS, uniform53


def draw(latent: Float[Tensor, "n d"], *, resolved: Resolved, generator: torch.Generator) -> Tensor:
    """Z for a batch of normalised embeddings (n, d): σ·N(0, I), ε·U([−1, 1]^d), or zeros without noise."""
    if resolved.sigma is not None:
        return resolved.sigma * torch.randn(
            latent.shape, generator=generator, device=latent.device, dtype=latent.dtype
        )
    if resolved.epsilon is not None:
        unit = torch.rand(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        return resolved.epsilon * (2 * unit - 1)
    return torch.zeros_like(latent)


def add_noise(
    embeddings: NDArray[np.floating], spec: FullSpec, resolved: Resolved, *, seed: int, offset: int = 0
) -> NDArray[np.float32]:
    """f(x) + Z for clean embeddings (n, d), float32; row i uses row offset + i of the stream ``seed``.

    Without noise in ``spec`` the embeddings come back unchanged.
    """
    clean = np.asarray(embeddings, dtype=np.float64)
    if len(clean) == 0 or (resolved.sigma is None and resolved.epsilon is None):
        return clean.astype(np.float32)
    rows = (offset, offset + len(clean))
    uniform = uniform53(seed, rows=rows, d=clean.shape[1], domain=NOISE_DRAWS)
    if resolved.epsilon is not None:
        return (clean + resolved.epsilon * (2 * uniform - 1)).astype(np.float32)
    noise = (resolved.sigma or 0.0) * special.ndtri(uniform)
    prior = make_prior(spec)
    if prior.through_normal:
        latent = (prior.normal_scores(clean) + noise) / math.hypot(1.0, resolved.sigma or 0.0)
        return prior.from_normal_scores(latent).astype(np.float32)
    return (clean + noise).astype(np.float32)
