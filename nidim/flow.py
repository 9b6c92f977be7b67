"""A normalising flow from N(0, I) to the law of a sample, and its fit.

    x = m + L·(g_k ∘ … ∘ g_1)(z),      z ~ N(0, I_d)
    log p(x) = log N(z; 0, I) − log|det L| − Σ_i log|det ∂g_i|

m and L are the mean and the Cholesky factor of the covariance of the sample. Each g is a coupling layer: some
coordinates stay, the others go through monotone rational-quadratic splines on [−5, 5] whose knots a small network
computes from the first. Beyond that box g is the identity, so the tails are those of a Gaussian. Both directions are in
closed form; the one from z to x, which serves embeddings in float32, needs no root.

The fit maximises log p over 70 % of the sample by Adam, keeps the moving average of the weights that is likeliest for
15 %, and stops when there was none better for a while. The last 15 % it never sees. On one thread, whatever the number
of cores: the same sample gives the same weights.

References: Dinh et al. 2017 (arXiv 1605.08803); Durkan et al. 2019 (arXiv 1906.04032); layers and splines are zuko's.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from nidim import optimizers
from nidim.torch_defaults import own_defaults

BINS, WIDTH = 8, 64
"""Of each spline; of the two hidden layers of the network that computes its knots."""
BATCH, RATE, WARM_UP = 256, 5e-3, 50
LOOK_EVERY, PATIENCE, MOST_STEPS = 25, 150, 2000
TINY, RIDGE = 1e-30, 1e-9
"""Least standard deviation; added to the diagonal of the correlations, which may be singular for embeddings."""
AVERAGE = 0.98
"""Weight of the past in the moving average of the weights."""


class Flow(nn.Module):
    """Latents (n, d) to points (n, d); without gradient unless it is asked for."""

    mean: Tensor
    factor: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        from zuko.flows.coupling import GeneralCouplingTransform
        from zuko.transforms import MonotonicRQSTransform

        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("factor", torch.eye(dim))
        self.layers = nn.ModuleList(
            GeneralCouplingTransform(
                dim,
                mask=mask,
                univariate=MonotonicRQSTransform,
                shapes=[(BINS,), (BINS,), (BINS - 1,)],
                hidden_features=(WIDTH, WIDTH),
                activation=nn.SiLU,
            )
            for mask in masks(dim)
        )
        self._columns = [columns(mask) for mask in masks(dim)]
        self.requires_grad_(False)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x of latents z."""
        layer: Any
        for layer, (kept, moved, back) in zip(self.layers, self._columns, strict=True):
            spline = layer.meta(None, z[:, kept])
            z = torch.cat([z[:, kept], spline(z[:, moved])], dim=1)[:, back]
        return self.mean + z @ self.factor.T

    def inverse(self, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """z of points x, and log|det ∂z/∂x|."""
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False).T
        volume = -self.factor.diagonal().log().sum().expand(len(x))
        for layer in reversed(self.layers):
            coupling = layer()
            kept, moved = coupling.split(z)
            spline = coupling.meta(kept)
            before = spline.inv(moved)
            volume = volume - spline.log_abs_det_jacobian(before, moved)
            z = coupling.merge(kept, before, z.shape)
        return z, volume

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log p(x), nats."""
        z, volume = self.inverse(x)
        return volume - 0.5 * z.square().sum(1) - x.shape[1] / 2 * math.log(2 * math.pi)


def masks(dim: int) -> list[Tensor]:
    """Which coordinates stay, a layer each: by the binary digits of their numbers, so that any two of them part."""
    digits = max(2, (dim - 1).bit_length())
    bits = max(1, (dim - 1).bit_length())
    place = torch.arange(dim)
    return [((place >> (layer // 2 % bits)) & 1) == layer % 2 for layer in range(2 * digits)]


def columns(mask: Tensor) -> tuple[list[int], list[int], list[int]]:
    """Coordinates that stay, those that move, and where each is once the two are joined.

    Known before any image: a program that looks them up in the mask as it runs can be saved, but not loaded.
    """
    kept, moved = mask.nonzero().flatten().tolist(), (~mask).nonzero().flatten().tolist()
    order = kept + moved
    return kept, moved, [order.index(i) for i in range(len(order))]


@own_defaults()
def fit(fitted: NDArray[np.float64], chosen_on: NDArray[np.float64]) -> tuple[Flow, int]:
    """The flow of the points ``fitted`` (n, d), weights float32, and the steps that are best on ``chosen_on``."""
    mean = fitted.mean(0)
    deviation = np.maximum(fitted.std(0), TINY)
    scaled = (fitted - mean) / deviation
    correlations = scaled.T @ scaled / len(scaled)
    factor = deviation[:, None] * np.linalg.cholesky(correlations + RIDGE * np.eye(len(mean)))
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        train, choice = (
            torch.from_numpy(np.linalg.solve(factor, (points - mean).T).T.copy()).float()
            for points in (fitted, chosen_on)
        )
        flow, steps = _descend(Flow(fitted.shape[1]), train, choice)
    flow.mean.copy_(torch.from_numpy(mean))
    flow.factor.copy_(torch.from_numpy(factor))
    return flow.requires_grad_(False), steps


def _descend(flow: Flow, train: Tensor, choice: Tensor) -> tuple[Flow, int]:
    """The layers for standardised points, and the steps."""
    average = copy.deepcopy(flow)
    best, best_value, best_step = copy.deepcopy(flow), math.inf, 0
    flow.layers.requires_grad_(True)
    optimizer = optimizers.Adam(flow.layers.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, MOST_STEPS + 1):
        batch = train[torch.randint(len(train), (BATCH,), generator=generator)]
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, step / WARM_UP)
        loss = -flow.log_prob(batch).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.layers.parameters(), 5.0)
        optimizer.step()
        _follow(average, flow, min(AVERAGE, step / (step + 10)))
        if step % LOOK_EVERY == 0:
            with torch.no_grad():
                value = -float(average.log_prob(choice).mean())
            if value < best_value - 1e-4:
                best, best_value, best_step = copy.deepcopy(average), value, step
            elif step - best_step >= PATIENCE:
                break
    return best, best_step


@torch.no_grad()
def _follow(average: Flow, flow: Flow, weight: float) -> None:
    for kept, now in zip(average.layers.parameters(), flow.layers.parameters(), strict=True):
        kept.lerp_(now, 1 - weight)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order: other numbers of threads would give other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@own_defaults()
def empty(dim: int) -> Flow:
    """A flow to load weights into; torch's random numbers stay where they were."""
    with torch.random.fork_rng(devices=[]):
        return Flow(dim)
