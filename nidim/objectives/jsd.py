"""The Jensen–Shannon gradient with the NWJ value (Poole et al. 2019, arXiv 1905.06922, section 2.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nidim.objectives.base import Bound, Objective, check_square, off_diagonal
from nidim.objectives.nwj import nwj


def jensen_shannon(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """−mean_i log(1 + exp(−T_ii)) − mean_{i≠j} log(1 + exp(T_ij)); largest where T is the log density ratio.

    2 JSD − 2 log 2 at its largest: no bound on information itself, but its gradient has little variance.
    """
    check_square(scores)
    return -functional.softplus(-scores.diagonal()).mean() - functional.softplus(off_diagonal(scores)).mean()


class JensenShannon(Objective):
    """Climbs the Jensen–Shannon divergence, reports NWJ of T + 1, which is tight at the same T."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        with torch.no_grad():
            value = nwj(scores + 1)
        return Bound(nats=value, surrogate=jensen_shannon(scores))
