"""Decoding processes that may crash or hang without harm: the culprit fails alone, the process is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.inference.decoder import FRAME, pack, unpack

CHUNK_IMAGES, CHUNK_BYTES = 64, 4 << 20
CRASHED = ("bad_image", "the image made its decoder crash or hang")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """How the pixels shall look, and the largest image that is decoded at all."""

    size: int
    channels: int
    max_pixels: int


@dataclass
class Decoded:
    """Pixels (n, size, size, channels); ``bad`` names images by index with (code, message)."""

    pixels: NDArray[np.uint8]
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)


class _Slot:
    """One process at a time, started when it is needed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """The living process of this slot."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "service.inference.decoder", str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        return self._process

    async def ask(self, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        """One exchange. Raises EOFError or OSError when the process dies."""
        process = await self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        head = {"lengths": [len(image) for image in images], **wanted.__dict__}
        process.stdin.writelines(pack(head, *images))
        await process.stdin.drain()
        length, head_length = FRAME.unpack(await process.stdout.readexactly(FRAME.size))
        answer, body = unpack(head_length, await process.stdout.readexactly(length))
        shape = (len(images), wanted.size, wanted.size, wanted.channels)
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


def _environment() -> dict[str, str]:
    """No settings of the service: passwords and keys are none of a decoder's business."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NIDIM_")}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecodePool:
    """A few decoding processes behind one queue."""

    def __init__(self, processes: int, *, timeout_s: float) -> None:
        self._slots = [_Slot() for _ in range(processes)]
        self._free: asyncio.Queue[_Slot] = asyncio.Queue()
        for slot in self._slots:
            self._free.put_nowait(slot)
        self._timeout_s = timeout_s
        self._working: set[asyncio.Task[Decoded]] = set()

    async def warm(self) -> None:
        """Start every process now, so that the first image does not wait for it."""
        await asyncio.gather(*(slot.start() for slot in self._slots))

    async def decode(self, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        """The pixels of all ``images``, in order."""
        answers = await asyncio.gather(*(self._shielded(chunk, wanted) for chunk in chunked(images)))
        return joined(answers, wanted)

    async def close(self) -> None:
        """Wait for exchanges under way, then end the processes."""
        await asyncio.gather(*self._working, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    async def _shielded(self, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        """A caller that hangs up must not leave a process in the middle of an exchange."""
        slot = await self._free.get()
        task = asyncio.create_task(self._on(slot, images, wanted))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)

    async def _on(self, slot: _Slot, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        try:
            return await self._ask(slot, images, wanted)
        finally:
            self._free.put_nowait(slot)

    async def _ask(self, slot: _Slot, images: Sequence[bytes], wanted: Wanted) -> Decoded:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await slot.ask(images, wanted)
        except (EOFError, OSError) as error:  # TimeoutError is an OSError
            logger.warning(
                "a decoding process was lost over %d images (%s)", len(images), type(error).__name__
            )
            await slot.stop()
        if len(images) == 1:
            return Decoded(_black(1, wanted), {0: CRASHED})
        return joined([await self._ask(slot, [image], wanted) for image in images], wanted)


def chunked(images: Sequence[bytes]) -> list[list[bytes]]:
    """``images`` in order, in pieces that one process takes at a time."""
    chunks: list[list[bytes]] = []
    room = 0
    for image in images:
        if room <= 0 or len(chunks[-1]) == CHUNK_IMAGES:
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


def _black(n: int, wanted: Wanted) -> NDArray[np.uint8]:
    return np.zeros((n, wanted.size, wanted.size, wanted.channels), np.uint8)
