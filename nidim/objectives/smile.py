"""SMILE (Song & Ermon 2020, arXiv 1910.06222): Donsker–Varadhan whose partition is clipped."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.objectives.base import Bound, Objective, check_square, log_mean_exp_off_diagonal
from nidim.objectives.jsd import jensen_shannon


def smile(scores: Float[Tensor, "n n"], *, clip: float) -> Float[Tensor, ""]:
    """mean_i T_ii − log mean_{i≠j} exp clip(T_ij, −τ, τ), nats; ``clip`` = τ.

    Clipping bounds the variance of the partition by exp(2τ)/n, and costs the guarantee: where exp T is larger than the
    clip among independent pairs the value lies above the bound.
    """
    check_square(scores)
    return scores.diagonal().mean() - log_mean_exp_off_diagonal(scores.clamp(-clip, clip))


class SMILE(Objective):
    """Reports SMILE, climbs the Jensen–Shannon divergence, as its authors do."""

    def __init__(self, *, clip: float) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        with torch.no_grad():
            value = smile(scores, clip=self.clip)
        return Bound(nats=value, surrogate=jensen_shannon(scores))
