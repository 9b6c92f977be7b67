"""Batches of images for training, in an order that depends on (seed, epoch) alone.

A set that fits is resident on the device as uint8. A larger one stays in its memory-mapped file; a thread reads
the next batch while the device works on this one. No state: the batch of any step can be had at once, which is
what makes a resumed training bit-identical.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nidim.encoders import scale
from nidim.world import ALONE, World

RESIDENT_BYTES = 8 << 30
"""Sets up to this size are copied to an accelerator once."""
AHEAD = 2


class Batch(NamedTuple):
    """Images (n, c, h, w), a rank's rows, and, where every image has partners, one of them for each."""

    images: Tensor
    partners: Tensor | None


class Feed:
    """``images`` uint8 (n, h, w, c), in memory or memory-mapped -> float batches (n, c, h, w) in [0, 1].

    ``batch_size``: of all ranks of ``world`` together.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        channels_last: bool = False,
        partners: NDArray[np.int32] | None = None,
        world: World = ALONE,
    ) -> None:
        self.images, self.batch_size, self.seed, self.device = images, batch_size, seed, device
        self.steps_per_epoch = max(1, len(images) // batch_size)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        resident = device.type != "cpu" and images.nbytes <= RESIDENT_BYTES
        self.resident = torch.from_numpy(np.array(images)).to(device) if resident else None
        self.partners, self.world = partners, world
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Which images make up the batch of ``step``; each epoch is a fresh permutation, its rest dropped."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
            self._epoch = epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def partners_of(self, step: int, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """For each image of the batch one of its partners, (n, k) of which were given; None without."""
        if self.partners is None:
            return None
        chosen = np.random.default_rng([self.seed, step, 1]).integers(0, self.partners.shape[1], len(indices))
        return self.partners[indices, chosen].astype(np.int64)

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of steps [start, stop), read ahead by a thread where the set is not resident."""
        if self.resident is not None:
            for step in range(start, stop):
                indices, partners = self._mine(step, self.indices(step))
                yield Batch(
                    self._finish(self._resident(indices)),
                    None if partners is None else self._finish(self._resident(partners)),
                )
            return
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            waiting = [pool.submit(self._read, step) for step in range(start, min(start + AHEAD, stop))]
            for step in range(start, stop):
                batch = waiting.pop(0).result()
                if step + AHEAD < stop:
                    waiting.append(pool.submit(self._read, step + AHEAD))
                others = None if batch.partners is None else self._arrived(batch.partners)
                yield Batch(self._arrived(batch.images), others)

    def batch_and_rows(self, step: int) -> tuple[Tensor, NDArray[np.int64]]:
        """The images of one step, and which rows of the set they are."""
        rows = np.sort(self.indices(step))
        if self.resident is not None:
            return self._finish(self._resident(rows)), rows
        return self._arrived(torch.from_numpy(self.images[rows])), rows

    def _mine(
        self, step: int, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """This rank's rows of the whole batch ``indices``, with their partners."""
        partners = self.partners_of(step, indices)
        return self.world.mine(indices), None if partners is None else self.world.mine(partners)

    def _read(self, step: int) -> Batch:
        indices, partners = self._mine(step, np.sort(self.indices(step)))
        return Batch(
            torch.from_numpy(self.images[indices]),
            None if partners is None else torch.from_numpy(self.images[partners]),
        )

    def _arrived(self, batch: Tensor) -> Tensor:
        return self._finish(batch.to(self.device, non_blocking=True))

    def _resident(self, indices: NDArray[np.int64]) -> Tensor:
        assert self.resident is not None
        return self.resident[torch.from_numpy(indices).to(self.device)]

    def _finish(self, batch: Tensor) -> Tensor:
        return scale(batch).contiguous(memory_format=self.memory_format)


def chunks(images: NDArray[np.uint8], size: int) -> Iterator[Tensor]:
    """The images in order as uint8 tensors (≤ size, h, w, c)."""
    for low in range(0, len(images), size):
        yield torch.from_numpy(np.array(images[low : low + size]))
