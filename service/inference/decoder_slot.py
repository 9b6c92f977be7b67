"""One decoding process as the API process holds it: started when it is needed, asked, ended. See decoder.py."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.environment import without_secrets
from service.inference.decoder import FRAME, READY, pack, unpack

CHUNK_IMAGES, CHUNK_BYTES = 64, 4 << 20
"""What one process takes at a time: so many images, of so many bytes, which become so many bytes of pixels."""
START_S = 60.0
"""For a process to come up, even where all others want the machine."""
MAX_HEAD = 1 << 20
"""Bytes of a decoder's own words in one answer."""


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


class Slot:
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
