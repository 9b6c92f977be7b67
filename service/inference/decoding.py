"""Decoding processes that may crash or hang without harm: the culprit fails alone, the process is replaced.

Who was in a process that was lost is asked again alone; who was alone is asked once more, for the process may have been
killed for reasons of its own. Lost twice, the image is to blame. A few such images end the patience with a request, so
that nobody can hold the decoders for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.environment import without_secrets
from service.inference.decoder import FRAME, READY, pack, unpack

CHUNK_IMAGES, CHUNK_BYTES = 64, 4 << 20
"""What one process takes at a time: so many images, of so many bytes, which become so many bytes of pixels."""
CRASHED = ("bad_image", "the image made its decoder crash or hang")
MAX_CULPRITS = 3
UNTRIED = (
    "bad_image",
    f"not decoded: {MAX_CULPRITS} images of this request made their decoder crash or hang",
)
START_S = 60.0
"""For a process to come up, even where all others want the machine."""
MAX_HEAD = 1 << 20
"""Bytes of a decoder's own words in one answer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """How the pixels shall look, and the largest image that is decoded at all."""

    size: int
    channels: int
    max_pixels: int

    @property
    def most(self) -> int:
        """Images that one process takes at a time."""
        return max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (self.size * self.size * self.channels)))


@dataclass
class Decoded:
    """Pixels (n, size, size, channels); ``bad`` names images by index with (code, message)."""

    pixels: NDArray[np.uint8]
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)


class DecodersDown(Exception):
    """No decoding process can be started."""


@dataclass
class Patience:
    """With one request: the images that lost their process twice."""

    culprits: int = 0

    @property
    def over(self) -> bool:
        return self.culprits >= MAX_CULPRITS


class _Slot:
    """One process at a time, started when it is needed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self.busy_since: float | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """The living process of this slot, which has said that it is ready. Raises DecodersDown."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                try:
                    self._process = await _started()
                except (EOFError, OSError) as error:  # TimeoutError is an OSError
                    raise DecodersDown from error
            return self._process

    async def ask(self, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        """One exchange. Raises EOFError or OSError when the process dies, ValueError when it talks nonsense."""
        process = await self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        head = {"lengths": [len(image) for image in images], **wanted.__dict__}
        process.stdin.writelines(pack(head, *images))
        await process.stdin.drain()
        length, head_length = FRAME.unpack(await process.stdout.readexactly(FRAME.size))
        shape = (len(images), wanted.size, wanted.size, wanted.channels)
        if length != head_length + math.prod(shape) or head_length > MAX_HEAD:
            raise ValueError("not the answer of a decoder")
        answer, body = unpack(head_length, await process.stdout.readexactly(length))
        bad = {int(i): (code, message) for i, (code, message) in answer["bad"].items()}
        return Decoded(np.frombuffer(body, np.uint8).reshape(shape), bad)

    async def stop(self) -> None:
        """End the process, however busy it is."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _started() -> asyncio.subprocess.Process:
    """A process that waits for images: what it takes to come up is no fault of theirs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "service.inference.decoder", str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            await process.stdout.readexactly(len(READY))
    except BaseException:  # whoever gives up waiting must not leave it behind
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return process


def _environment() -> dict[str, str]:
    return {**without_secrets(os.environ), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecodePool:
    """A few decoding processes behind one queue."""

    def __init__(self, processes: int, *, timeout_s: float) -> None:
        self._slots = [_Slot() for _ in range(processes)]
        self._free: asyncio.Queue[_Slot] = asyncio.Queue()
        for slot in self._slots:
            self._free.put_nowait(slot)
        self._timeout_s = timeout_s
        self._working: set[asyncio.Task[Decoded]] = set()
        self.restarts = 0

    async def warm(self) -> None:
        """Start every process now, so that the first image does not wait for it."""
        await asyncio.gather(*(slot.start() for slot in self._slots))

    async def decode(
        self, images: Sequence[bytes], wanted: Wanted, patience: Patience | None = None
    ) -> Decoded:
        """The pixels of all ``images``, in order; ``patience`` is that with the request. Raises DecodersDown."""
        patience = patience or Patience()
        answers = await asyncio.gather(
            *(self._shielded(chunk, wanted, patience) for chunk in chunked(images, wanted.most))
        )
        return joined(answers, wanted)

    def stuck_s(self) -> float:
        """For how long every process has been busy with the same images; 0 where one of them is free."""
        now = time.monotonic()
        return min((now - slot.busy_since if slot.busy_since else 0.0 for slot in self._slots), default=0.0)

    async def close(self) -> None:
        """Wait for exchanges under way, then end the processes."""
        await asyncio.gather(*self._working, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    async def _shielded(self, images: Sequence[bytes], wanted: Wanted, patience: Patience) -> Decoded:
        """A caller that hangs up must not leave a process in the middle of an exchange."""
        slot = await self._free.get()
        task = asyncio.create_task(self._on(slot, images, wanted, patience))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)

    async def _on(self, slot: _Slot, images: Sequence[bytes], wanted: Wanted, patience: Patience) -> Decoded:
        try:
            return await self._ask(slot, images, wanted, patience)
        finally:
            slot.busy_since = None
            self._free.put_nowait(slot)

    async def _ask(self, slot: _Slot, images: Sequence[bytes], wanted: Wanted, patience: Patience) -> Decoded:
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

    async def _try(self, slot: _Slot, images: Sequence[bytes], wanted: Wanted) -> Decoded | None:
        """The pixels; None if the process was lost over them. It is gone then."""
        await slot.start()
        slot.busy_since = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await slot.ask(images, wanted)
        except (EOFError, OSError, ValueError) as error:  # TimeoutError is an OSError
            logger.warning(
                "a decoding process was lost over %d images (%s)", len(images), type(error).__name__
            )
            self.restarts += 1
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
