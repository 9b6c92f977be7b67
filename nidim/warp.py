"""From the Gaussian latent to the embedding, in torch: the prior's map from normal scores.

    independent coordinates     F⁻¹ ∘ Φ per coordinate
    sphere                      the latent over its length
    flow                        the flow

Training and its noise live in the latent; this map is applied last, when an embedding is served. No gradient changes it
and it exports to ONNX. The latent itself is the embedding for N(0, I), and for the sigmoid's construction.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.flow import Flow
from nidim.priors import FlowPrior, MarginalPrior, Prior, SpherePrior

REACH = 8.5
"""Normal scores up to which the map is tabulated: beyond, float64 has no distribution function left."""
CELLS = 1 << 14
TINY = 1e-30


class NormalCDF(nn.Module):
    """Φ: a standard normal latent becomes uniform on [0, 1]."""

    def forward(self, latent: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return 0.5 * (1 + torch.erf(latent * 2**-0.5))


class QuantileMap(nn.Module):
    """F⁻¹ ∘ Φ of any law from a table of values and slopes, cubic Hermite between, straight beyond |s| = 8.5.

    Within 3e-6 of the exact map in units of s, a few roundings of float32.
    """

    values: Tensor
    slopes: Tensor

    def __init__(self, prior: MarginalPrior) -> None:
        super().__init__()
        knots = np.linspace(-REACH, REACH, CELLS + 1)
        self.register_buffer("values", torch.tensor(prior.from_normal_scores(knots), dtype=torch.float32))
        self.register_buffer("slopes", torch.tensor(prior.slope(knots), dtype=torch.float32))

    def forward(self, latent: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        width = 2 * REACH / CELLS
        inside = latent.clamp(-REACH, REACH)
        place = (inside + REACH) / width
        cell = place.floor().clamp(0, CELLS - 1)
        t, left = place - cell, cell.long()
        a, b = self.values[left], self.values[left + 1]
        slope_a, slope_b = self.slopes[left] * width, self.slopes[left + 1] * width
        rise = b - a
        curve = a + t * (
            slope_a + t * (3 * rise - 2 * slope_a - slope_b + t * (slope_a + slope_b - 2 * rise))
        )
        return curve + (latent - inside) * torch.where(latent < 0, self.slopes[0], self.slopes[-1])


class Direction(nn.Module):
    """A latent over its length, a point of the sphere."""

    def forward(self, latent: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return latent / latent.square().sum(1, keepdim=True).sqrt().clamp_min(TINY)


class FlowMap(nn.Module):
    """A fitted flow in float32."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = copy.deepcopy(flow).float()

    def forward(self, latent: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        points: Tensor = self.flow(latent)
        return points


def build_warp(prior: Prior) -> nn.Module:
    """The map for ``prior``."""
    if isinstance(prior, SpherePrior):
        return Direction()
    if isinstance(prior, FlowPrior):
        return FlowMap(prior.flow)
    if isinstance(prior, MarginalPrior):
        return QuantileMap(prior)
    return NormalCDF() if prior.through_normal else nn.Identity()
