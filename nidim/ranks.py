"""Trainings over several processes, a GPU or a share of the CPU each, started by torchrun.

GPUs talk by NCCL. What is on the CPU goes by gloo: everything where there is no GPU, and always what the ranks agree
on, so that asking costs no wait for the device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nidim import collectives
from nidim.encoders import EncoderModel
from nidim.errors import NidimError, SpecError
from nidim.methods import Method
from nidim.world import ALONE, Asked, Found, Rows, World

PATIENCE = datetime.timedelta(hours=12)
"""The others wait so long for the leader, which may have an archive to decode; torchrun ends them if it dies."""


@dataclasses.dataclass(frozen=True)
class Ranks(World):
    """One of ``size`` processes of the default group of torch.distributed."""

    rank: int
    size: int

    def mine(self, rows: Rows) -> Rows:
        n = len(rows) // self.size
        return rows[self.rank * n : (self.rank + 1) * n]

    def gather(self, rows: Tensor) -> Tensor:
        return collectives.gather(rows)

    def variance(self, values: Tensor, dim: tuple[int, ...]) -> Tensor:
        var, mean = torch.var_mean(values, dim=dim, correction=0, keepdim=True)
        means, variances = self.gather(torch.stack([mean, var])[None]).unbind(1)
        return collectives.pooled(means, variances)[1]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        collectives.average_gradients(parameters)

    def agreed(self, asked: Asked) -> Asked:
        def on_any() -> bool:
            found = torch.tensor([asked is not None and asked()], dtype=torch.int32)
            try:
                dist.all_reduce(found, dist.ReduceOp.MAX)
            except RuntimeError as exc:
                raise NidimError(
                    "Another process of this training has ended; what it says is the reason."
                ) from exc
            return bool(found)

        return on_any

    def check_shares(self, batch_size: int) -> None:
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            advice = f"take {below}" if below else "start fewer"
            raise SpecError(
                f"A batch of {batch_size} images cannot be shared equally by {self.size} processes; {advice}.",
                pointer="/batch_size",
            )

    def check_alike(self, what: str) -> None:
        if self.from_leader(what.encode) != what.encode():
            raise NidimError(
                f"Rank {self.rank} is about to train something else than rank 0: give all processes the same spec and "
                "images, and an --out that all of them see."
            )

    def from_leader(self, make: Callable[[], bytes]) -> bytes:
        made = bytearray(make()) if self.leads else bytearray()
        length = torch.tensor([len(made)])
        dist.broadcast(length, src=0)
        found = (
            torch.frombuffer(made, dtype=torch.uint8)
            if self.leads
            else torch.empty(int(length), dtype=torch.uint8)
        )
        dist.broadcast(found, src=0)
        return found.numpy().tobytes()

    def leader_first(self, work: Callable[[], Found]) -> Found:
        if not self.leads:
            self._meet()
            return work()
        try:
            return work()
        finally:
            self._meet()

    def _meet(self) -> None:
        self.from_leader(lambda: b"here")

    @contextlib.contextmanager
    def spread(self, *modules: nn.Module) -> Iterator[None]:
        found = {part for module in modules for part in module.modules()}
        spread = [part for part in found if isinstance(part, EncoderModel | Method)]
        networks = [part.network for part in spread if isinstance(part, EncoderModel)]
        norms = [place for network in networks for place in _norms(network)]
        self._enter(spread, norms)
        try:
            yield
        finally:
            for part in spread:
                part.world = ALONE
            for parent, name, norm in norms:
                setattr(parent, name, norm)

    def _enter(self, spread: list[EncoderModel | Method], norms: list[_Place]) -> None:
        for part in spread:
            part.world = self
        for parent, name, norm in norms:
            setattr(parent, name, collectives.SharedBatchNorm(norm))

    def leave(self) -> None:
        dist.destroy_process_group()


_Place = tuple[nn.Module, str, nn.BatchNorm2d]


def _norms(network: nn.Module) -> list[_Place]:
    """The batch norms of a network, with the module and the name that each has its place in."""
    return [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    ]


def join() -> World:
    """The world that torchrun has named in the environment, joined; one process without it.

    Raises NidimError where the machine has GPUs, but fewer than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    gpus = torch.cuda.device_count()
    if gpus:
        local = int(os.environ["LOCAL_RANK"])
        if local >= gpus:
            raise NidimError(
                f"More processes than the {gpus} GPUs: --nproc-per-node {gpus}, or CUDA_VISIBLE_DEVICES= for the CPU."
            )
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())
