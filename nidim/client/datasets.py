"""The prior of an encoder as a dataset of torch, for what is trained on draws from it.

    prior = PriorDataset(client.encoder("digits-2d"), seed=7)
    loader = DataLoader(prior, batch_sampler=prior.batches(128))

A map-style dataset needs no base class; torch is imported with the first row.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nidim.client.client import Client
from nidim.client.encoders import Encoder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    Rows = Dataset[Tensor]
else:
    Rows = object
"""For type checkers a dataset of torch, which a DataLoader wants to see; it needs nothing of that class."""

PAGE_VALUES = 1 << 18


class PriorDataset(Rows):
    """Row i of the one infinite stream of ``seed``, float32 (d,), fetched in pages of which some are kept.

    ``encoder``: of a blocking client. ``rows``: how many rows there are said to be; None: no end, for :meth:`batches`.
    ``page_rows`` are fetched at a time and ``pages`` pages kept, enough for rows in order; for shuffled ones let all of
    ``rows`` fit. Every worker of a DataLoader has connections and pages of its own.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        rows: int | None = None,
        page_rows: int | None = None,
        pages: int = 16,
    ) -> None:
        self.dim, self.seed, self.temperature, self.rows = encoder.dim, seed, temperature, rows
        self._page_rows, self._pages = page_rows or max(1, PAGE_VALUES // encoder.dim), pages
        self._encoder_id, self._server = encoder.id, encoder.server
        self._cache: tuple[int, Any] | None = os.getpid(), self._paged(encoder)
        self.client: Client | None = None

    def __len__(self) -> int:
        if self.rows is None:
            raise TypeError("the stream has no end: give rows=, or take batches()")
        return self.rows

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Several rows; DataLoader asks for a batch this way."""
        import torch

        return [torch.from_numpy(self._row(index).copy()) for index in indices]

    def __iter__(self) -> Iterator[Tensor]:
        index = 0
        while self.rows is None or index < self.rows:
            yield self[index]
            index += 1

    def batches(self, size: int, *, start: int = 0, steps: int | None = None) -> PriorBatches:
        """A batch sampler: rows in order from ``start``, ``size`` at a time, ``steps`` batches or without end."""
        return PriorBatches(size, start=start, steps=steps)

    def _row(self, index: int) -> NDArray[np.float32]:
        where = index + self.rows if index < 0 and self.rows is not None else index
        if where < 0 or (self.rows is not None and where >= self.rows):
            raise IndexError(f"row {index} of {self.rows}")
        page, place = divmod(where, self._page_rows)
        row: NDArray[np.float32] = self._fetch(page)[place]
        return row

    def _fetch(self, page: int) -> NDArray[np.float32]:
        if self._cache is None or self._cache[0] != os.getpid():
            self.client = Client(**self._server)  # this process has no connections yet
            self._cache = os.getpid(), self._paged(self.client.encoder(self._encoder_id))
        rows: NDArray[np.float32] = self._cache[1](page)
        return rows

    def _paged(self, encoder: Encoder) -> Any:
        return functools.lru_cache(self._pages)(functools.partial(self._draw, encoder))

    def _draw(self, encoder: Encoder, page: int) -> NDArray[np.float32]:
        start = page * self._page_rows
        return encoder.prior.sample(
            self._page_rows, seed=self.seed, offset=start, temperature=self.temperature
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None, "client": None}


class PriorBatches:
    """Indices of batches in order: with it a run goes on at row ``start`` where another one ended."""

    def __init__(self, size: int, *, start: int = 0, steps: int | None = None) -> None:
        self.size, self.start, self.steps = size, start, steps

    def __iter__(self) -> Iterator[list[int]]:
        step = 0
        while self.steps is None or step < self.steps:
            first = self.start + step * self.size
            yield list(range(first, first + self.size))
            step += 1

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("the batches have no end: give steps=")
        return self.steps
