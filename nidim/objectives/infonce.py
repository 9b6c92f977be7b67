"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), with all scores in memory or a block of rows at a time."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nidim.objectives.base import Bound, Objective, check_square
from nidim.spec import parts


def infonce(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """log n + mean_i (T_ii − logsumexp_j T_ij), nats; at most log n, unchanged by a shift of any row.

    ``scores``: T (n, n), row = anchor, column = candidate, diagonal = true pairs.
    """
    check_square(scores)
    return math.log(len(scores)) + (scores.diagonal() - torch.logsumexp(scores, dim=1)).mean()


def infonce_in_blocks(
    anchors: Float[Tensor, "n k"], candidates: Float[Tensor, "m k"], *, values: int = parts.BLOCK_OF_SCORES
) -> Float[Tensor, ""]:
    """``infonce`` of T = anchors candidatesᵀ with at most ``values`` scores, or one row, in memory at a time.

    The gradient is taken with the value: with p the softmax of a row, n ∂/∂a_i = b_i − Σ_j p_ij b_j and
    n ∂/∂b_j = a_j − Σ_i p_ij a_i. No second derivative. Raises ValueError unless both are (n, k) with n ≥ 2.
    """
    n = len(anchors)
    if anchors.shape != candidates.shape or n < 2:
        raise ValueError(
            f"anchors and candidates must be (n, k) with n >= 2, got {tuple(anchors.shape)} "
            f"and {tuple(candidates.shape)}"
        )
    mean: Tensor = _Blocks.apply(anchors, candidates, max(1, values // n))
    return math.log(n) + mean


class _Blocks(torch.autograd.Function):
    """mean_i (T_ii − logsumexp_j T_ij), so many rows at a time."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, rows: int) -> Tensor:
        n, wanted = len(anchors), any(ctx.needs_input_grad)
        value = anchors.new_zeros(())
        to_anchors, to_candidates = candidates.clone(), anchors.clone()
        for low in range(0, n, rows):
            block = slice(low, low + rows)
            scores = anchors[block] @ candidates.T
            total = torch.logsumexp(scores, dim=1)
            value += (scores.diagonal(low) - total).sum()
            if wanted:
                chances = scores.sub_(total[:, None]).exp_()
                to_anchors[block].addmm_(chances, candidates, alpha=-1)
                to_candidates.addmm_(chances.T, anchors[block], alpha=-1)
        if wanted:
            ctx.save_for_backward(to_anchors, to_candidates)
        return value / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        to_anchors, to_candidates = ctx.saved_tensors
        slope = slope / len(to_anchors)
        return slope * to_anchors, slope * to_candidates, None


class InfoNCE(Objective):
    """InfoNCE as an objective: what is reported is what is climbed."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        value = infonce(scores)
        return Bound(nats=value, surrogate=value)
