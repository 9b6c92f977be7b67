"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.objectives.base import Bound, Objective, check_square


def infonce(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """log n + mean_i (T_ii − logsumexp_j T_ij), nats; at most log n, unchanged by a shift of any row.

    ``scores``: T (n, n), row = anchor, column = candidate, diagonal = true pairs.
    """
    check_square(scores)
    return math.log(len(scores)) + (scores.diagonal() - torch.logsumexp(scores, dim=1)).mean()


class InfoNCE(Objective):
    """InfoNCE as an objective: what is reported is what is climbed."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        value = infonce(scores)
        return Bound(nats=value, surrogate=value)
