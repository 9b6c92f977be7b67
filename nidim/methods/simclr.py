"""SimCLR (Chen et al. 2020, arXiv 2002.05709) with noise on the first view, before the projection head."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring, shown_nats


def nt_xent(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], *, temperature: float) -> Float[Tensor, ""]:
    """NT-Xent of two views, nats to minimise: cross entropy over the 2n − 1 other views, both directions."""
    z = functional.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    scores = z @ z.T / temperature
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -math.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return functional.cross_entropy(scores, partner)


class SimCLR(Method):
    """Two augmented views; ``mi_nats`` is InfoNCE of the noisy one against the other, by the same cosines.

    NT-Xent itself is no bound: among its negatives are views with and without noise, which have different laws.
    """

    def __init__(self, wiring: Wiring, *, temperature: float) -> None:
        super().__init__(wiring)
        self.temperature = temperature

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        first, second = self.two_views(model, images, generator=generator)
        anchors, others = self.projections(first, second, generator=generator)
        loss = nt_xent(anchors, others, temperature=self.temperature)
        nats = shown_nats(anchors, others, temperature=self.temperature)
        return StepResult(surrogate=-loss, mi_nats=nats, clean=first)
