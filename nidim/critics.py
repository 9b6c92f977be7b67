"""Critics: a score T_ij for every pair of an anchor a_i and a candidate b_j; row = anchor, column = candidate.

    separable           g(a_i)ᵀ h(b_j)           one matrix product for all pairs
    bilinear            a_iᵀ W b_j
    concat              MLP([a_i, b_j])          n·m evaluations; the critic of the paper
    gaussian_channel    −‖a_i − b_j‖² / 2σ²      exact for a = f + Z, Z ~ N(0, σ²I), b = f; no parameters

Shapes: a (n, d), b (m, d) -> T (n, m). No temperature and no L2 normalisation, as in arXiv 2410.06993.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.layers import LEAK, mlp
from nidim.spec import parts


def gaussian_channel_scores(
    anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m d"], sigma: float
) -> Float[Tensor, "n m"]:
    """−‖a_i − b_j‖²/2σ²: the log-density of the channel up to a constant of the row.

    From differences: with ‖a‖² − 2aᵀb + ‖b‖² a small σ leaves nothing but rounding errors on the diagonal.
    """
    distance = torch.cdist(anchors, candidates, compute_mode="donot_use_mm_for_euclid_dist")
    return -distance.square() / (2 * sigma**2)


class FactoredCritic(nn.Module):
    """T = A Bᵀ with ``factors`` A (n, k) and B (m, k), so that a block of its rows can be had alone."""

    def factors(self, anchors: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def forward(self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m w"]) -> Tensor:
        a, b = self.factors(anchors, candidates)
        return a @ b.T


class SeparableCritic(FactoredCritic):
    """T = g(a) h(b)ᵀ with two MLPs d → hidden → hidden → dim; ``width``: the length of b where it is not d."""

    def __init__(self, d: int, *, hidden: int, dim: int, width: int | None = None) -> None:
        super().__init__()
        self.anchor = mlp(d, hidden, hidden, dim)
        self.candidate = mlp(width or d, hidden, hidden, dim)

    def factors(
        self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m w"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "m k"]]:
        """g(a) and h(b)."""
        return self.anchor(anchors), self.candidate(candidates)


class BilinearCritic(FactoredCritic):
    """T = a W bᵀ, W (d, d) starting at I/√d."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(d) / d**0.5)

    def factors(
        self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """a W and b."""
        return anchors @ self.weight, candidates


class ConcatCritic(nn.Module):
    """T_ij = MLP([a_i, b_j]), 2d → hidden → hidden → 1; the first layer is applied to each side once."""

    def __init__(self, d: int, *, hidden: int) -> None:
        super().__init__()
        self.anchor = nn.Linear(d, hidden)
        self.candidate = nn.Linear(d, hidden, bias=False)
        self.rest = nn.Sequential(nn.LeakyReLU(LEAK), *mlp(hidden, hidden, 1))

    def forward(self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m d"]) -> Tensor:
        pairs = self.anchor(anchors)[:, None] + self.candidate(candidates)[None]
        return self.rest(pairs).squeeze(-1)


class GaussianChannelCritic(nn.Module):
    """The exact critic of Gaussian noise of standard deviation σ."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "m d"]) -> Tensor:
        return gaussian_channel_scores(anchors, candidates, self.sigma)


def build_critic(critic: parts.Critic, d: int, *, sigma: float | None) -> nn.Module:
    """The critic of a spec, for inputs of length ``d``; ``sigma`` as resolved.

    Raises ValueError when gaussian_channel is asked for without Gaussian noise.
    """
    if critic.kind == "separable":
        return SeparableCritic(d, hidden=critic.hidden, dim=critic.dim)
    if critic.kind == "bilinear":
        return BilinearCritic(d)
    if critic.kind == "concat":
        return ConcatCritic(d, hidden=critic.hidden)
    if sigma is None:
        raise ValueError("critic gaussian_channel needs gaussian noise: it has no sigma otherwise")
    return GaussianChannelCritic(sigma)
