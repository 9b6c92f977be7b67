"""The processes of one training: each takes its rows of every batch, all hold the same weights.

    a rank's own rows     reading, views, the network with its batch norms over all rows
    all rows, everywhere  moments, noise, head, critic, objective, regulariser: from the gathered outputs of the network

Random numbers are drawn for the whole batch from a generator that all ranks seed alike, and each takes those of its
rows. So a training is the same over any number of ranks, but for the order of sums.

Gradients: what is climbed is the mean of the ranks' surrogates, which are equal. Whatever is gathered passes back the
sum of all ranks' gradients, and those of the parameters are averaged.

:class:`World` is one process, where all of this is nothing; several are :class:`nidim.ranks.Ranks`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor, nn

Rows = TypeVar("Rows", Tensor, NDArray[Any])
Found = TypeVar("Found")
Asked = Callable[[], bool] | None


class World:
    """One process: it leads, every row is its own, there is nobody to wait for."""

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this rank reports, writes, evaluates and decides for all."""
        return self.rank == 0

    def mine(self, rows: Rows) -> Rows:
        """Of the rows (m, …) of a whole batch those of this rank, (m / size, …)."""
        return rows

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, …) of every rank in their order, (n · size, …), with gradient."""
        return rows

    def variance(self, values: Tensor, dim: tuple[int, ...]) -> Tensor:
        """Over ``dim``, axis 0 among them, of all ranks' ``values``, uncorrected, axes kept, with gradient."""
        return values.var(dim=dim, correction=0, keepdim=True)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradient of each the mean of that of all ranks."""

    def agreed(self, asked: Asked) -> Asked:
        """``asked``, true on every rank as soon as it is on one."""
        return asked

    def check_shares(self, batch_size: int) -> None:
        """Raises SpecError for a batch that the ranks cannot share equally."""

    def check_alike(self, what: str) -> None:
        """Raises NidimError where ``what`` is not that of the leader."""

    def from_leader(self, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gives there; nobody else calls it."""
        return make()

    def leader_first(self, work: Callable[[], Found]) -> Found:
        """``work`` of the leader, then that of the others: they find what it has left, a download or a cache."""
        return work()

    def spread(self, *modules: nn.Module) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Within the context the encoders and methods among ``modules`` work on rows; after it as they did before."""
        return contextlib.nullcontext()

    def leave(self) -> None:
        """Part from the others. The leader may go on alone."""


ALONE = World()
