"""Work on members in a few threads, in order, with a bounded number in flight.

Pillow lets go of the interpreter's lock while it decodes. Members travel in batches, for a small image costs less
than handing it to a thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

from PIL import Image

from nidim.data import pixels
from nidim.data.limits import ImageLimits
from nidim.data.members import Member

T = TypeVar("T")
BATCH = 64
BATCH_BYTES = 4 * 2**20
MAX_THREADS = 4
LARGE = 4_000_000
"""Pixels from which only one image is decoded at a time, to bound the memory."""
_ONE_LARGE = threading.Lock()


def decode(data: bytes, *, limits: ImageLimits) -> Image.Image:
    """:func:`nidim.data.pixels.decode`, one large image at a time."""
    header = pixels.read_header(data, limits=limits)
    with _ONE_LARGE if header.width * header.height > LARGE else nullcontext():
        return pixels.finish(header, data)


def map_members(work: Callable[[Member], T], members: Iterable[Member]) -> Iterator[tuple[Member, T]]:
    """``(member, work(member))`` in order; the member comes back without its bytes."""

    def do(batch: list[Member]) -> list[tuple[Member, T]]:
        return [(member._replace(data=None), work(member)) for member in batch]

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    pending: deque[Future[list[tuple[Member, T]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(members):
            pending.append(pool.submit(do, batch))
            if len(pending) > threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _batches(members: Iterable[Member]) -> Iterator[list[Member]]:
    batch: list[Member] = []
    size = 0
    for member in members:
        batch.append(member)
        size += len(member.data or b"")
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
