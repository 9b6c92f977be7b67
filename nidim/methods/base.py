"""What a method gives back, and the term that may stand beside its objective."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.encoders import EncoderModel
from nidim.spec.parts import KNOTS

REACH = 3.0  # of the quadrature over the characteristic function


class StepResult(NamedTuple):
    """``surrogate``: to climb. ``mi_nats``: the bound, to report. ``clean``: clean latents (n, d)."""

    surrogate: Tensor
    mi_nats: Tensor
    clean: Tensor


class Method(nn.Module):
    """Holds what is trained beside the encoder (head, critic, buffers of the objective)."""

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        raise NotImplementedError


def sliced_epps_pulley(
    latent: Float[Tensor, "n d"], *, slices: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean over random directions of n·∫|φ_n(t) − e^{−t²/2}|² N(t; 0, 1) dt, by 17 knots on [−3, 3].

    About .42 for standard normal latents, whatever n; φ_n is the empirical characteristic function of a
    projection. Epps & Pulley 1983; as a training term on slices: arXiv 2511.08544.
    """
    n, d = latent.shape
    directions = torch.randn((d, slices), generator=generator, device=latent.device)
    projected = latent @ (directions / directions.norm(dim=0))
    t = torch.linspace(-REACH, REACH, KNOTS, device=latent.device)
    normal = torch.exp(-0.5 * t.square())
    angles = projected[..., None] * t
    distance = (torch.cos(angles).mean(0) - normal).square() + torch.sin(angles).mean(0).square()
    weight = normal / (2 * torch.pi) ** 0.5 * (2 * REACH / (KNOTS - 1))
    return n * (distance * weight).sum(-1).mean()
