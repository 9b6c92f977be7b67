"""What the processes of a training compute together: rows that are gathered, gradients that are averaged, batch norm.

Each collective is differentiated as its adjoint: over the sum of the ranks' losses, a gradient with respect to what
several ranks have seen is the sum of theirs. All ranks hold equally many rows.

Reference for batch norm over several devices: Peng et al. 2018, arXiv 1711.07240.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def all_rows(rows: Tensor) -> Tensor:
    """(n, …) of every rank -> (n · ranks, …), in the order of the ranks, without gradient."""
    found = rows.new_empty((dist.get_world_size() * len(rows), *rows.shape[1:]))
    dist.all_gather(list(found.chunk(dist.get_world_size())), rows.contiguous())
    return found


def gather(rows: Tensor) -> Tensor:
    """``all_rows`` with gradient: that of a row is the sum of what every rank sends back to it."""
    found: Tensor = _Gathered.apply(rows)
    return found


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        return all_rows(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        total = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.n :][: ctx.n]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over the ranks, by one message. Every rank has gradients for the same parameters."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([slope.flatten() for slope in slopes])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for slope, mean in zip(slopes, flat.split([slope.numel() for slope in slopes]), strict=True):
        slope.copy_(mean.view_as(slope))


def pooled(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and uncorrected variance (…) of all rows from those (r, …) of r ranks with equally many."""
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


class SharedBatchNorm(nn.BatchNorm2d):
    """The batch norm ``norm`` by the moments of all ranks' rows; parameters and buffers stay those of ``norm``.

    torch.nn.SyncBatchNorm is the same on a GPU; it has no CPU.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if not self.training:
            return super().forward(features)
        mean, var = _moments(features.detach().float())
        self._follow(mean, var, dist.get_world_size() * features.numel() // features.shape[1])
        found: Tensor = _Standardized.apply(features, self.weight, self.bias, mean, var, self.eps)
        return found

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, n: int) -> None:
        """As torch does: the stored variance is the corrected one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (n / (n - 1)), self.momentum)


def _moments(features: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and uncorrected variance of each channel over the rows of all ranks.

    By the kernel of batch norm itself: torch.var_mean takes twenty times as long on a CPU.
    """
    mean, var = torch.ops.aten.batch_norm_update_stats(features, None, None, 0.0)
    means, variances = all_rows(torch.stack([mean, var])[None]).unbind(1)
    return pooled(means, variances)


class _Standardized(torch.autograd.Function):
    """γ (x − μ)/√(v + ε) + β, with the gradient that passes through μ and v of all ranks' rows.

    With x̂ the standardised rows, g the gradient and N the rows of all ranks: ∂x = γ/√(v + ε)·(g − Σg/N − x̂ Σ(g x̂)/N),
    where the sums run over all ranks; those of a rank alone are its ∂β and ∂γ.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            slope, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([to_bias, to_weight]).float()
        dist.all_reduce(sums)
        inverse = torch.rsqrt(var + ctx.eps)
        shift, tilt = sums * (weight * inverse / (dist.get_world_size() * x.numel() // x.shape[1]))
        tilt = tilt * inverse
        moved = torch.addcmul(to_x - _along(shift - tilt * mean), x, _along(-tilt))
        return moved.to(x.dtype), to_weight, to_bias, None, None, None


def _along(channels: Float[Tensor, " c"]) -> Float[Tensor, "1 c 1 1"]:
    return channels[None, :, None, None]
