"""Information about parts of the view: original Deep InfoMax (arXiv 1808.06670), across views as in AMDIM (1906.00910).

    1/S Σ_s I(c_s(X'); f(X) + Z)        c_s the cell s of an intermediate feature map of the view

Every cell is a function of the view, and the noise is that of the global bound, so each term is information over the
same noisy channel: at most its capacity, by data processing. One critic projects embeddings and cells, whatever their
place; the negatives of a cell are the cells at the same place of the other images.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.critics import SeparableCritic
from nidim.objectives import Bound, Objective
from nidim.spec.maps import LocalMap


class LocalBound(nn.Module):
    """The mean over the cells of one map; an objective a cell, because some have a memory of their scores."""

    def __init__(
        self, place: LocalMap, *, critic: SeparableCritic, objectives: Iterable[Objective], weight: float
    ) -> None:
        super().__init__()
        self.block, self.side, self.weight = place.block, place.side, weight
        self.critic, self.objectives = critic, nn.ModuleList(objectives)

    def forward(self, anchors: Float[Tensor, "n d"], features: Float[Tensor, "n c h w"]) -> Bound:
        """``anchors``: noisy embeddings; ``features``: the map of the views, in the precision of the network."""
        features = features.float()
        if features.shape[-1] > self.side:
            features = functional.adaptive_avg_pool2d(features, self.side)
        cells = self.critic.candidate(features.flatten(2).permute(2, 0, 1))
        return mean_over_cells(self.critic.anchor(anchors), cells, self.objectives)


def mean_over_cells(
    anchors: Float[Tensor, "n k"], cells: Float[Tensor, "s n k"], objectives: Iterable[nn.Module]
) -> Bound:
    """1/s Σ_s bound(anchors cells_sᵀ), with the scores (n, n) of one cell in memory at a time.

    The gradient of each cell's surrogate is taken at once and its scores are let go; what is returned has the value of
    the surrogate and these gradients. Reference: Gao et al. 2021, arXiv 2101.06983, for the caching.
    """
    a = anchors.detach().requires_grad_()
    slopes, nats, values = [], [], []
    slope = torch.zeros_like(anchors)
    for cell, objective in zip(cells.detach(), objectives, strict=True):
        with torch.enable_grad():
            c = cell.requires_grad_()
            bound = objective(a @ c.T)
            of_anchors, of_cell = torch.autograd.grad(bound.surrogate, (a, c))
        slope += of_anchors
        slopes.append(of_cell)
        nats.append(bound.nats.detach())
        values.append(bound.surrogate.detach())
    along = ((anchors * slope).sum() + (cells * torch.stack(slopes)).sum()) / len(cells)
    return Bound(
        nats=torch.stack(nats).mean(), surrogate=torch.stack(values).mean() + (along - along.detach())
    )
