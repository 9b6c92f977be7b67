"""Nguyen–Wainwright–Jordan (2010), also known as f-GAN KL or MINE-f."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.objectives.base import Bound, Objective, check_square, log_mean_exp_off_diagonal


def nwj(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """mean_i T_ii − mean_{i≠j} exp(T_ij − 1), nats; tight when T is 1 + the log density ratio."""
    check_square(scores)
    return scores.diagonal().mean() - torch.exp(log_mean_exp_off_diagonal(scores) - 1)


class NWJ(Objective):
    """NWJ as an objective: its plain gradient is unbiased."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        value = nwj(scores)
        return Bound(nats=value, surrogate=value)
