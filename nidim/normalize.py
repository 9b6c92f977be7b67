"""The constraint on f that gives the noisy channel a finite capacity.

    UnitMoments     zero mean, unit variance per coordinate: what Gaussian noise needs
    UnitInterval    a sigmoid, support [0, 1]^d: what uniform noise needs

Each branch of a training step is standardised by *its own* moments. Over clean and augmented views together,
the clean branch exceeded unit variance and the information its capacity (2.59 > 2.30 nats, MNIST, d=2, σ=1/3).
The stored moments follow the clean branch only, and are computed anew over the training images at the end.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPS = 1e-5


def standardize(h: Float[Tensor, "n d"], mean: Float[Tensor, " d"], var: Float[Tensor, " d"]) -> Tensor:
    """(h − mean)/√(var + 1e-5), per coordinate."""
    return (h - mean) * torch.rsqrt(var + EPS)


class UnitMoments(nn.Module):
    """Zero mean and unit variance per coordinate, without learned scale or shift.

    In training by the moments of the batch; in evaluation by the buffers ``mean`` and ``var`` (d,).
    """

    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))

    def forward(self, h: Float[Tensor, "n d"], *, track: bool = True) -> Float[Tensor, "n d"]:
        """``track``: let the buffers follow this batch (the clean branch) or not (any other)."""
        if not self.training:
            return standardize(h, self.mean, self.var)
        var, mean = torch.var_mean(h, dim=0, correction=0)
        if track:
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.var.lerp_(var, self.momentum)
        return standardize(h, mean, var)

    def set_moments(self, mean: Float[Tensor, " d"], var: Float[Tensor, " d"]) -> None:
        """Store the moments of the raw outputs over the training images."""
        self.mean.copy_(mean)
        self.var.copy_(var)


class UnitInterval(nn.Module):
    """The sigmoid; it has no moments to track."""

    def forward(self, h: Float[Tensor, "n d"], *, track: bool = True) -> Float[Tensor, "n d"]:  # noqa: ARG002
        return torch.sigmoid(h)
