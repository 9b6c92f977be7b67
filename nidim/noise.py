"""Noise in training: Z on the normalised embedding, drawn with torch on the training device (:func:`draw`).

What is served with noise on request is :mod:`nidim.noisy`.

Two devices of training, of which neither serving nor certificate knows: noise between the blocks of the network
(:func:`perturb`), and one σ a coordinate within a fixed capacity (:class:`SharedCapacity`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.capacity import Resolved
from nidim.normalize import EPS
from nidim.spec.channel import gaussian_capacity
from nidim.world import ALONE, World

MOST_SHARE = 4.0
"""Even shares of the capacity that a coordinate has at most, and the inverse at least: drowned in noise, its law would
be anything."""


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


def perturb(
    features: Float[Tensor, "n c h w"], *, sigma: float, generator: torch.Generator, world: World = ALONE
) -> Float[Tensor, "n c h w"]:
    """h + σ·s·ξ, ξ ~ N(0, 1): noise relative to s (c,), the standard deviation of each channel over batch and places.

    The gradient passes through s: otherwise activations would seem to escape the noise by growing, which they cannot.
    ``world``: of which the features are this rank's rows.
    """
    values = features.float()  # moments and noise stay in float32 under autocast
    deviation = torch.sqrt(world.variance(values, dim=(0, 2, 3)) + EPS)
    noise = world.mine(_empty_batch(values, world.size).normal_(generator=generator))
    return (values + sigma * deviation * noise).to(features.dtype)


def _empty_batch(values: Float[Tensor, "n c h w"], parts: int) -> Float[Tensor, "m c h w"]:
    """Room for m = n · ``parts`` rows, laid out in memory as ``values``: draws are made in that order."""
    if parts == 1:
        return torch.empty_like(values)
    last = values.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (parts * len(values), *values.shape[1:])
    return torch.empty(shape, device=values.device, dtype=values.dtype, memory_format=layout)


def sigma_carrying(nats: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """The σ_i at which ½ log(1 + 1/σ_i²) = ``nats``_i > 0: 1/√(e^{2c} − 1), without overflow for large c."""
    return torch.exp(-nats - 0.5 * torch.log(-torch.expm1(-2 * nats)))


class SharedCapacity(nn.Module):
    """One σ a coordinate, learned; together they carry what a common σ would: Σ_i ½ log(1 + 1/σ_i²) = C(d, σ).

    The shares of C are a softmax, so the sum is C whatever is learned: information is maximised by where the noise is,
    never by there being less of it. What the softmax sees is bounded by ½ log 4, so that each share lies between 1/4d
    and 4/d. All are equal at the start.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(dim))

    def forward(self, sigma: float) -> Float[Tensor, " d"]:
        """σ_i for the capacity of the common ``sigma``."""
        d = len(self.logits)
        shares = torch.softmax(0.5 * math.log(MOST_SHARE) * torch.tanh(self.logits), dim=0)
        return sigma_carrying(gaussian_capacity(d, sigma) * shares)
