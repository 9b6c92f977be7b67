"""Methods without negatives that forbid collapse by second moments, with noise on the first view.

VICReg          Bardes, Ponce & LeCun 2022, arXiv 2105.04906
Barlow Twins    Zbontar et al. 2021, arXiv 2103.03230
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring, shown_nats
from nidim.spec.parts import BarlowTwinsMethod, VICRegMethod

SHOWN_TEMPERATURE = 0.1
"""Of the cosines by which information is shown; no method here has one of its own."""
_EPS = 1e-4


def off_diagonal_squares(matrix: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Sum of the squares off the diagonal."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


def vicreg(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], weights: VICRegMethod) -> Float[Tensor, ""]:
    """Invariance, variance and covariance of two views' projections, to minimise."""
    n, d = a.shape
    loss = weights.invariance * functional.mse_loss(a, b)
    for z in (a, b):
        centred = z - z.mean(0)
        deviation = torch.sqrt(centred.square().sum(0) / (n - 1) + _EPS)
        covariance = centred.T @ centred / (n - 1)
        loss = loss + weights.variance / 2 * functional.relu(1 - deviation).mean()
        loss = loss + weights.covariance / d * off_diagonal_squares(covariance)
    return loss


def barlow_twins(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], *, off_diagonal: float
) -> Float[Tensor, ""]:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij² of the correlations C between two views' projections, to minimise."""
    z, y = ((v - v.mean(0)) / torch.sqrt(v.var(0, correction=0) + _EPS) for v in (a, b))
    correlation = z.T @ y / len(a)
    on = (1 - correlation.diagonal()).square().sum()
    return on + off_diagonal * off_diagonal_squares(correlation)


class RedundancyReduction(Method):
    """Two augmented views, noise on the first before its expander."""

    def __init__(self, wiring: Wiring, *, settings: VICRegMethod | BarlowTwinsMethod) -> None:
        super().__init__(wiring)
        self.settings = settings

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        first, second = self.two_views(model, images, generator=generator)
        a, b = self.projections(first, second, generator=generator)
        if self.settings.kind == "vicreg":
            loss = vicreg(a, b, self.settings)
        else:
            loss = barlow_twins(a, b, off_diagonal=self.settings.off_diagonal)
        nats = shown_nats(a, b, temperature=SHOWN_TEMPERATURE)
        return StepResult(surrogate=-loss, mi_nats=nats, clean=first)
