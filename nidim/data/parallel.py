"""Work on members in a few threads, in order, with a bounded number in flight.

Pillow lets go of the interpreter's lock while it decodes. Members travel in batches, for a small image costs less
than handing it to a thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nidim.data.members import Member

T = TypeVar("T")
BATCH = 64
BATCH_BYTES = 4 * 2**20
MAX_THREADS = 4


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
