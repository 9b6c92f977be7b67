"""Decoding processes that may crash or hang without harm: the culprit fails alone, the process is replaced.

Small requests ride together: a process that gets free takes its share of what waits in one exchange. So a busy server
pays for few exchanges, and the images leave them in a company that the forward pass gains from as well.

Who was in a process that was lost is asked again alone; who was alone is asked once more, for the process may have been
killed for reasons of its own. Lost twice, the image is to blame. A few such images end the patience with a request, so
that nobody can hold the decoders for long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.inference.admission import Bound, Pace
from service.inference.decoder_slot import CHUNK_BYTES, CHUNK_IMAGES, Decoded, Slot, Wanted
from service.inference.watch import Unwatched, Watch

CRASHED = ("bad_image", "the image made its decoder crash or hang")
MAX_CULPRITS = 3
UNTRIED = (
    "bad_image",
    f"not decoded: {MAX_CULPRITS} images of this request made their decoder crash or hang",
)

logger = logging.getLogger(__name__)


@dataclass
class Patience:
    """With one request: the images that lost their process twice."""

    culprits: int = 0

    @property
    def over(self) -> bool:
        return self.culprits >= MAX_CULPRITS


@dataclass
class _Rider:
    """Images of one request that go to a process together; ``alone``: they were in one that was lost."""

    images: Sequence[bytes]
    wanted: Wanted
    patience: Patience
    answer: asyncio.Future[Decoded]
    alone: bool = False

    def deliver(self, decoded: Decoded) -> None:
        if not self.answer.done():
            self.answer.set_result(decoded)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class DecodePool:
    """A few decoding processes behind one queue."""

    def __init__(self, processes: int, *, timeout_s: float, bound: Bound, watch: Watch | None = None) -> None:
        self._slots = [Slot() for _ in range(processes)]
        self._free = deque(self._slots)
        self._waiting: deque[_Rider] = deque()
        self._timeout_s, self._pace = timeout_s, Pace(bound)
        self._watch: Watch = watch or Unwatched()
        self._working: set[asyncio.Task[None]] = set()
        self.waiting = 0
        """Images that no process has taken yet."""

    async def warm(self) -> None:
        """Start every process now, so that the first image does not wait for it."""
        await asyncio.gather(*(slot.start() for slot in self._slots))

    def admit(self, images: int) -> None:
        """Whether a request of so many images may wait here. Raises QueueFull."""
        self._pace.admit(self.waiting, images)

    async def decode(
        self, images: Sequence[bytes], wanted: Wanted, patience: Patience | None = None
    ) -> Decoded:
        """The pixels of all ``images``, in order; ``patience`` is that with the request. Raises DecodersDown."""
        patience = patience or Patience()
        loop = asyncio.get_running_loop()
        riders = [
            _Rider(chunk, wanted, patience, loop.create_future()) for chunk in chunked(images, wanted.most)
        ]
        for rider in riders:
            self._waiting.append(rider)
            self.waiting += len(rider.images)
        self._hand_out()
        if len(riders) == 1:
            return await riders[0].answer
        return joined(await asyncio.gather(*(rider.answer for rider in riders)), wanted)

    def stuck_s(self) -> float:
        """For how long every process has been busy with the same images; 0 where one of them is free."""
        now = time.monotonic()
        return min((now - slot.busy_since if slot.busy_since else 0.0 for slot in self._slots), default=0.0)

    async def close(self) -> None:
        """Wait for exchanges under way, then end the processes."""
        while self._working:
            await asyncio.gather(*self._working, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    def _hand_out(self) -> None:
        """Free processes to who waits, in tasks of their own: who hangs up must not leave an exchange half done."""
        while self._free and (riders := self._company()):
            task = asyncio.create_task(self._on(self._free.popleft(), riders))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    def _company(self) -> list[_Rider]:
        """The next one, and who may ride along: one process's share of what waits, as much as it takes at a time."""
        share, count, size = math.ceil(len(self._waiting) / len(self._slots)), 0, 0
        riders: list[_Rider] = []
        while self._waiting and len(riders) < share:
            rider = self._waiting[0]
            if rider.answer.done():  # who asked has hung up
                self._next()
                continue
            count, size = count + len(rider.images), size + sum(map(len, rider.images))
            if riders and not _fits(rider, riders[0], count, size):
                break
            riders.append(self._next())
            if rider.alone or rider.patience.over:
                break
        return riders

    def _next(self) -> _Rider:
        rider = self._waiting.popleft()
        self.waiting -= len(rider.images)
        return rider

    async def _on(self, slot: Slot, riders: list[_Rider]) -> None:
        try:
            await self._serve(slot, riders)
        except Exception as error:
            for rider in riders:
                rider.fail(error)
        finally:
            slot.busy_since = None
            self._free.append(slot)
            self._hand_out()

    async def _serve(self, slot: Slot, riders: list[_Rider]) -> None:
        """One exchange for all ``riders``; if it is lost, they wait again, each on its own."""
        if len(riders) == 1:
            (rider,) = riders
            rider.deliver(await self._ask(slot, rider.images, rider.wanted, rider.patience))
            return
        images = [image for rider in riders for image in rider.images]
        if (answer := await self._try(slot, images, riders[0].wanted)) is None:
            for rider in reversed(riders):
                rider.alone = True
                self._waiting.appendleft(rider)
                self.waiting += len(rider.images)
            return
        first = 0
        for rider in riders:
            last = first + len(rider.images)
            bad = {i - first: why for i, why in answer.bad.items() if first <= i < last}
            rider.deliver(Decoded(answer.pixels[first:last], bad))
            first = last

    async def _ask(self, slot: Slot, images: Sequence[bytes], wanted: Wanted, patience: Patience) -> Decoded:
        if patience.over:
            return _refused(images, wanted, UNTRIED)
        if (answer := await self._try(slot, images, wanted)) is not None:
            return answer
        if len(images) > 1:
            parts = [await self._ask(slot, [image], wanted, patience) for image in images]
            return joined(parts, wanted)
        if (answer := await self._try(slot, images, wanted)) is not None:
            return answer
        patience.culprits += 1
        return _refused(images, wanted, CRASHED)

    async def _try(self, slot: Slot, images: Sequence[bytes], wanted: Wanted) -> Decoded | None:
        """The pixels; None if the process was lost over them. It is gone then."""
        await slot.start()
        slot.busy_since = began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await slot.ask(images, wanted)
            self._pace.note(len(images) * len(self._slots), time.monotonic() - began)
            return answer
        except (EOFError, OSError, ValueError) as error:  # TimeoutError is an OSError
            logger.warning(
                "a decoding process was lost over %d images (%s)", len(images), type(error).__name__
            )
            self._watch.decoder_lost()
            await slot.stop()
            return None


def chunked(images: Sequence[bytes], most: int = CHUNK_IMAGES) -> list[list[bytes]]:
    """``images`` in order, in pieces that one process takes at a time."""
    chunks: list[list[bytes]] = []
    room = 0
    for image in images:
        if room <= 0 or len(chunks[-1]) == most:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(image)
        room -= len(image)
    return chunks


def _fits(rider: _Rider, first: _Rider, count: int, size: int) -> bool:
    """Whether ``rider`` may ride with ``first``, so many images and bytes in all."""
    lonely = rider.alone or rider.patience.over
    return not lonely and rider.wanted == first.wanted and count <= first.wanted.most and size <= CHUNK_BYTES


def joined(answers: Sequence[Decoded], wanted: Wanted) -> Decoded:
    """Answers one after the other as one."""
    if len(answers) == 1:
        return answers[0]
    bad: dict[int, tuple[str, str]] = {}
    offset = 0
    for answer in answers:
        bad |= {offset + i: what for i, what in answer.bad.items()}
        offset += len(answer.pixels)
    return Decoded(np.concatenate([_black(0, wanted), *(answer.pixels for answer in answers)]), bad)


def _refused(images: Sequence[bytes], wanted: Wanted, why: tuple[str, str]) -> Decoded:
    return Decoded(_black(len(images), wanted), dict.fromkeys(range(len(images)), why))


def _black(n: int, wanted: Wanted) -> NDArray[np.uint8]:
    return np.zeros((n, wanted.size, wanted.size, wanted.channels), np.uint8)
