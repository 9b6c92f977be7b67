"""One queue in front of one encoder. No torch, no HTTP, no timer.

A batch leaves as soon as the engine is free: an idle server adds a thread's hand-over, a busy one fills its
batches by itself. Laws that the tests hold:

* rows come back in the order of their images, whatever rode in the same batch;
* a failed batch is retried image by image: the culprit fails alone, and every waiter is answered;
* the queue is bounded (:class:`QueueFull`); who hung up is skipped;
* a large request takes turns with small ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inference.admission import Bound, Pace
from service.inference.watch import Unwatched, Watch

Pixels = NDArray[Any]
"""uint8 images; of a generator, rows of what it is fed."""
Rows = NDArray[np.float32]
Forward = Callable[[Pixels], Rows]

logger = logging.getLogger(__name__)


class BatcherClosed(Exception):
    """The server is stopping; try again."""


@dataclass(frozen=True)
class Answer:
    """Rows (n, d) in the order of the images; a failed row is NaN and named in ``failed``."""

    rows: Rows
    failed: dict[int, Exception]
    queue_s: float
    forward_s: float
    batch: int


@dataclass
class _Request:
    images: Pixels
    rows: Rows
    future: asyncio.Future[Answer]
    arrived: float
    failed: dict[int, Exception] = field(default_factory=dict)
    taken: int = 0
    answered: int = 0
    queue_s: float = 0.0
    forward_s: float = 0.0
    batch: int = 0

    def answer(self) -> Answer:
        return Answer(self.rows, self.failed, self.queue_s, self.forward_s, self.batch)


@dataclass(frozen=True)
class _Part:
    request: _Request
    start: int
    stop: int

    @property
    def images(self) -> Pixels:
        return self.request.images[self.start : self.stop]


class Batcher:
    """Feeds ``forward`` (n, h, w, c) -> (n, ``dim``) from concurrent requests, one batch at a time."""

    def __init__(
        self,
        forward: Forward,
        *,
        dim: int,
        max_batch: int,
        bound: Bound,
        executor: Executor,
        watch: Watch | None = None,
    ) -> None:
        self._forward = forward
        self._watch: Watch = watch or Unwatched()
        self._dim = dim
        self._max_batch = max_batch
        self._pace = Pace(bound)
        self._executor = executor
        self._queue: deque[_Request] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False
        self.waiting = 0

    async def submit(self, images: Pixels, *, begun: bool = False) -> Answer:
        """The rows of ``images``. Raises QueueFull or BatcherClosed at once, never after waiting.

        ``begun``: further images of a request that was let in; they are never refused as too many.
        """
        if self._closed:
            raise BatcherClosed
        if not begun:
            self._pace.admit(self.waiting, len(images))
        rows = np.full((len(images), self._dim), np.nan, dtype=np.float32)
        if len(images) == 0:
            return Answer(rows, {}, 0.0, 0.0, 0)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_Request(images, rows, future, time.perf_counter()))
        self.waiting += len(images)
        if self._pump is None:
            self._pump = asyncio.create_task(self._drain(), context=contextvars.Context())  # nobody's request
        return await future

    async def close(self) -> None:
        """Takes nothing more and returns when everything that was accepted is answered."""
        self._closed = True
        if self._pump is not None:
            await self._pump

    async def _drain(self) -> None:
        try:
            while parts := self._take():
                await self._serve(parts)
        finally:
            self._pump = None

    def _take(self) -> list[_Part]:
        """Up to ``max_batch`` images; a request that did not fit goes to the end of the queue."""
        parts: list[_Part] = []
        room = self._max_batch
        while self._queue and room:
            request = self._queue.popleft()
            left = len(request.images) - request.taken
            if request.future.done():
                self.waiting -= left
                continue
            count = min(room, left)
            parts.append(_Part(request, request.taken, request.taken + count))
            request.taken += count
            self.waiting -= count
            room -= count
            if count < left:
                self._queue.append(request)
        return parts

    async def _serve(self, parts: list[_Part]) -> None:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            rows, failed = await loop.run_in_executor(
                self._executor, self._compute, [part.images for part in parts]
            )
        except Exception as error:  # the executor itself failed: nobody may be left waiting
            logger.exception("a batch could not be started")
            for part in parts:
                _refuse(part.request, error)
            return
        took = time.perf_counter() - started
        self._watch.batch(images=len(rows), forward_s=took)
        self._pace.note(len(rows), took)
        first = 0
        for part in parts:
            last = first + part.stop - part.start
            _deliver(part, rows[first:last], {i - first: e for i, e in failed.items() if first <= i < last})
            _account(part, started, took, len(rows))
            first = last

    def _compute(self, chunks: Sequence[Pixels]) -> tuple[Rows, dict[int, Exception]]:
        images = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        try:
            return self._checked(images), {}
        except Exception as error:
            logger.warning("a batch of %d failed (%s); trying its images one by one", len(images), error)
            return self._one_by_one(images)

    def _one_by_one(self, images: Pixels) -> tuple[Rows, dict[int, Exception]]:
        rows = np.full((len(images), self._dim), np.nan, dtype=np.float32)
        failed: dict[int, Exception] = {}
        for i in range(len(images)):
            try:
                rows[i] = self._checked(images[i : i + 1])[0]
            except Exception as error:
                failed[i] = error
        return rows, failed

    def _checked(self, images: Pixels) -> Rows:
        rows = np.asarray(self._forward(images), dtype=np.float32)
        if rows.shape != (len(images), self._dim):
            raise ValueError(f"the encoder answered {rows.shape} for {len(images)} images, d={self._dim}")
        return rows


def _deliver(part: _Part, rows: Rows, failed: dict[int, Exception]) -> None:
    part.request.rows[part.start : part.stop] = rows
    part.request.failed |= {part.start + i: error for i, error in failed.items()}


def _account(part: _Part, started: float, took: float, batch: int) -> None:
    """Times of the request that ``part`` belongs to; its waiter is answered with the last part."""
    request = part.request
    if part.start == 0:
        request.queue_s = started - request.arrived
    request.forward_s += took
    request.batch = max(request.batch, batch)
    request.answered += part.stop - part.start
    if request.answered == len(request.images) and not request.future.done():
        request.future.set_result(request.answer())


def _refuse(request: _Request, error: Exception) -> None:
    if not request.future.done():
        request.future.set_exception(error)
