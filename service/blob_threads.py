"""Threads of their own for what waits for the blob store.

The routes share forty threads. An S3 that takes connections and never answers would keep every one of them waiting, and
nothing that needs a thread would be answered any more. So what reads or deletes blobs has these, few; who finds all of
them waiting is told so, and all other routes do not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from service.errors import BlobsUnavailable

T = TypeVar("T")
THREADS = 16
AGAIN_S = 5.0


class BlobThreads:
    """For one event loop; who gets no thread within ``patience_s`` seconds is refused."""

    def __init__(self, *, patience_s: float, most: int = THREADS) -> None:
        self._patience_s = patience_s
        self._turns = asyncio.Semaphore(most)
        self._limiter = anyio.CapacityLimiter(most)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """``work(*args)`` in a thread. Raises BlobsUnavailable."""
        async with self._turn():
            return await anyio.to_thread.run_sync(work, *args, limiter=self._limiter)

    async def each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, each made in a thread."""
        while piece := await self.run(next, pieces, b""):
            yield piece

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._turns.acquire()
        except TimeoutError:
            raise BlobsUnavailable(retry_after_s=AGAIN_S) from None
        try:
            yield
        finally:
            self._turns.release()
