"""The least KL between two laws whose means and variances of T are those seen.

Nishiyama & Sason 2020, Entropy 22, 563, theorem 2. It knows no sign: −T gives the same.
With means m_P, m_Q and variances v_P, v_Q of T under the joint law P and the product law Q:

    a = m_P − m_Q,   b = a² + v_Q − v_P,   w = √(v_P + b²/4a²),   r = ½ + b/(4aw),   s = r − a/(2w)
    KL(P‖Q) ≥ r·log(r/s) + (1 − r)·log((1 − r)/(1 − s))

It knows no unit either, so T is taken in units of its own spread; scores without any say nothing, 0 nats.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.objectives.base import Bound, Objective, check_square, off_diagonal

_TINY = 1e-6


def nishiyama(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """The bound from first and second moments of T over true and over independent pairs, nats."""
    check_square(scores)
    known = scores.detach()
    scores = (scores - known.mean()) / known.std(correction=0).clamp(min=torch.finfo(scores.dtype).tiny)
    joint, product = scores.diagonal(), off_diagonal(scores)
    a = joint.mean() - product.mean()
    a = torch.where(a >= 0, a.clamp(min=_TINY), a.clamp(max=-_TINY))
    v_joint, v_product = (scores.var(correction=0) + _TINY for scores in (joint, product))
    b = a.square() + v_product - v_joint
    w = torch.sqrt(v_joint + b.square() / (4 * a.square()))
    r = (0.5 + b / (4 * a * w)).clamp(_TINY, 1 - _TINY)
    s = (r - a / (2 * w)).clamp(_TINY, 1 - _TINY)
    return r * torch.log(r / s) + (1 - r) * torch.log((1 - r) / (1 - s))


class Nishiyama(Objective):
    """The bound as an objective, by its plain gradient."""

    def forward(self, scores: Float[Tensor, "n n"]) -> Bound:
        value = nishiyama(scores)
        return Bound(nats=value, surrogate=value)
