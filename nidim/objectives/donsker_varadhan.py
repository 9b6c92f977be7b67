"""Donsker–Varadhan, with the gradient correction of MINE (Belghazi et al. 2018, arXiv 1801.04062)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.objectives.base import Bound, Objective, check_square, log_mean_exp_off_diagonal


def donsker_varadhan(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """mean_i T_ii − log mean_{i≠j} exp T_ij, nats; unchanged by a constant added to all of T."""
    check_square(scores)
    return scores.diagonal().mean() - log_mean_exp_off_diagonal(scores)


class DonskerVaradhan(Objective):
    """DV whose gradient divides by a moving average of the partition instead of the batch's own.

    The plain gradient of log mean exp T is biased in small batches. The buffer ``log_partition`` holds the
    *logarithm* of the average, so that large scores do not overflow it; NaN until the first training step.
    """

    log_partition: Tensor

    def __init__(self, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("log_partition", torch.tensor(math.nan))

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        check_square(scores)
        joint = scores.diagonal().mean()
        log_partition = log_mean_exp_off_diagonal(scores)
        value = joint - log_partition
        if not self.training or self.decay == 0:
            return Bound(nats=value, surrogate=value)
        average = self._follow(log_partition.detach())
        # d/dθ of exp(log Z_batch − log Z_average) is dZ_batch/Z_average: the corrected gradient
        surrogate = joint - torch.exp(log_partition - average)
        return Bound(nats=value, surrogate=surrogate)

    def _follow(self, log_batch: Tensor) -> Tensor:
        with torch.no_grad():
            mixed = torch.logaddexp(
                self.log_partition + math.log(self.decay), log_batch + math.log1p(-self.decay)
            )
            self.log_partition.copy_(torch.where(self.log_partition.isnan(), log_batch, mixed))
        return self.log_partition.clone()
