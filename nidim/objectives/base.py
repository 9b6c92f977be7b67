"""What every objective returns, and what it refuses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bound(NamedTuple):
    """An estimate of a lower bound on mutual information.

    ``nats``: its value, to report. ``surrogate``: a scalar whose gradient is to be climbed; for a bound with
    a biased plain gradient the two differ.
    """

    nats: Tensor
    surrogate: Tensor


class Objective(nn.Module):
    """Scores (n, n) with true pairs on the diagonal -> :class:`Bound`, nats to *maximise*."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        raise NotImplementedError


def check_square(scores: Tensor) -> None:
    """Raises ValueError unless ``scores`` is (n, n) with n ≥ 2."""
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ValueError(f"scores must be (n, n) with n >= 2, got {tuple(scores.shape)}")


def off_diagonal(scores: Float[Tensor, "n n"]) -> Float[Tensor, " m"]:
    """T_ij over i ≠ j, n(n − 1) values."""
    n = len(scores)
    return scores.flatten()[1:].view(n - 1, n + 1)[:, :-1].flatten()


def log_mean_exp_off_diagonal(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """log of the mean of exp T_ij over i ≠ j: pairs that are independent, without the true ones."""
    n = len(scores)
    masked = scores.masked_fill(torch.eye(n, dtype=torch.bool, device=scores.device), -math.inf)
    return torch.logsumexp(masked.flatten(), dim=0) - math.log(n * (n - 1))
