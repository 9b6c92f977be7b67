"""The loss step alone: critic, InfoNCE and their gradients, for all pairs of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.speed.measure import Json, in_turns, ratio, row
from benchmarks.speed.training_steps import synchronise
from nidim.critics import BilinearCritic, ConcatCritic, SeparableCritic
from nidim.hardware import pick_device
from nidim.layers import mlp
from nidim.objectives import infonce

HIDDEN, DIM, BATCH = 256, 64, 512
DIMENSIONS = (2, 16)
TIMES_CONCATENATED = 20.0
THEIRS, OURS_CONCAT = "concatenated, all pairs through the MLP (arXiv 2410.06993)", "critic: concat"


class AllPairs(nn.Module):
    """T_ij = MLP([a_i, b_j]) as it is written: n² inputs of length 2d."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.net = mlp(2 * d, HIDDEN, HIDDEN, 1)

    def forward(self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "n d"]) -> Tensor:
        n = len(anchors)
        pairs = torch.cat([anchors[:, None].expand(n, n, -1), candidates[None].expand(n, n, -1)], dim=2)
        return self.net(pairs.reshape(n * n, -1)).view(n, n)


def rows(*, seed: int, rounds: int) -> list[Json]:
    """One for each of our one-matmul critics and each dimension."""
    return [found for d in DIMENSIONS for found in _rows(d, seed=seed, rounds=rounds)]


def _rows(d: int, *, seed: int, rounds: int) -> list[Json]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        critics = {
            "separable": SeparableCritic(d, hidden=HIDDEN, dim=DIM),
            "bilinear": BilinearCritic(d),
            OURS_CONCAT: ConcatCritic(d, hidden=HIDDEN),
            THEIRS: AllPairs(d),
        }
        both = torch.randn(2, BATCH, d, device=pick_device())
    seconds = in_turns(
        {name: loss_step(critic.to(both.device), both) for name, critic in critics.items()}, rounds=rounds
    )
    peers = {name: seconds[name] for name in (THEIRS, OURS_CONCAT)}
    return [
        row(
            f"loss step, {kind} critic, batch {BATCH}, d = {d}",
            "s",
            seconds[kind],
            peers=peers,
            asked=f">= {TIMES_CONCATENATED:g} times the concatenated critic",
            met=ratio(seconds[THEIRS], seconds[kind]) >= TIMES_CONCATENATED,
        )
        for kind in ("separable", "bilinear")
    ]


def loss_step(critic: nn.Module, both: Float[Tensor, "2 n d"]) -> Callable[[], None]:
    """Bound and gradients with respect to embeddings and critic."""
    anchors, candidates = (x.clone().requires_grad_() for x in both)

    def once() -> None:
        critic.zero_grad(set_to_none=True)
        anchors.grad = candidates.grad = None
        (-infonce(critic(anchors, candidates))).backward()
        synchronise()

    return once
