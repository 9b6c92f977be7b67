"""Images in, rows out: decode, queue, forward. The whole of serving without HTTP."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference import dummy, engine
from service.inference.batcher import Batcher
from service.inference.decoding import Decoded, DecodePool, Wanted
from service.inference.registry import Notes, Registry, label
from service.inference.room import Budget
from service.inference.watch import Unwatched, Watch
from service.settings import Settings
from service.store import Blobs
from service.store.encoders import Encoder

Pixels = NDArray[np.uint8]
Bad = dict[int, tuple[str, str]]
"""Index -> (code, message) of images that cannot be used."""

NOT_BASE64 = ("bad_image", "not base64")
PROBE_TIMEOUT_S = 10.0


class BadImagesFound(Exception):
    """Some images cannot be decoded; ``bad`` says which and why."""

    def __init__(self, bad: Bad) -> None:
        super().__init__(f"{len(bad)} images cannot be decoded")
        self.bad = bad


@dataclass(frozen=True)
class Embedded:
    """Rows (n, d) in the order of the images; NaN where ``bad`` or ``failed`` has the index."""

    encoder: str
    rows: NDArray[np.float32]
    bad: Bad = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)
    decode_s: float = 0.0
    queue_s: float = 0.0
    forward_s: float = 0.0
    batch: int = 0

    @property
    def missing(self) -> frozenset[int]:
        """The rows that have no value."""
        return frozenset(self.bad) | frozenset(self.failed)


class Serving:
    """One per process."""

    def __init__(
        self,
        settings: Settings,
        blobs: Blobs,
        *,
        scratch: Path,
        watch: Watch | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._watch: Watch = watch or Unwatched()
        cores = os.cpu_count() or 1
        self._max_pixels = settings.max_pixels
        self.decoder = DecodePool(
            settings.decode_processes or max(2, min(8, cores // 2)), timeout_s=settings.decode_timeout_s
        )
        load = functools.partial(
            engine.load,
            blobs=blobs,
            device=settings.serve_device,
            threads=settings.serve_threads or max(1, cores // 4),
            scratch=scratch,
        )
        self.registry = Registry(
            load,
            max_bytes=settings.serve_cache_bytes,
            max_batch=settings.serve_batch_images,
            max_waiting=settings.serve_queue_images,
            watch=self._watch,
            notes=notes,
        )
        self._dummy_thread = ThreadPoolExecutor(1, thread_name_prefix="dummy")
        self._dummy = Batcher(
            dummy.embed, dim=dummy.DIM, max_batch=8, max_waiting=64, executor=self._dummy_thread
        )
        self.budget = Budget(settings.serve_inflight_bytes)

    @property
    def waiting(self) -> int:
        """Images in all queues."""
        return sum(handle.batcher.waiting for handle in self.registry.handles)

    async def embed(
        self, encoder: Encoder, images: Sequence[bytes | None] | Pixels, *, keep_going: bool = False
    ) -> Embedded:
        """The rows of image files, or of an array (n, h, w[, c]).

        Raises BadImagesFound unless ``keep_going``; QueueFull, BatcherClosed, Damaged.
        """
        started = time.perf_counter()
        decoded = await self._pixels(encoder, images)
        decode_s = time.perf_counter() - started
        for code, _ in decoded.bad.values():
            self._watch.undecodable(code)
        if decoded.bad and not keep_going:
            raise BadImagesFound(decoded.bad)
        good = [i for i in range(len(decoded.pixels)) if i not in decoded.bad]
        async with self.registry.use(encoder) as handle:
            pixels = decoded.pixels[good] if decoded.bad else decoded.pixels
            answer = await handle.batcher.submit(pixels)
        self._watch.request(decode_s=decode_s, queue_s=answer.queue_s)
        rows = answer.rows
        if decoded.bad:
            rows = np.full((len(decoded.pixels), encoder.dim), np.nan, np.float32)
            rows[good] = answer.rows
        return Embedded(
            encoder=label(encoder),
            rows=rows,
            bad=decoded.bad,
            failed={good[i]: error for i, error in answer.failed.items()},
            decode_s=decode_s,
            queue_s=answer.queue_s,
            forward_s=answer.forward_s,
            batch=answer.batch,
        )

    async def probe(self) -> None:
        """A real forward pass: of the encoder that was used last, else of the dummy. Raises what goes wrong."""
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            handles = self.registry.handles
            if not handles:
                answer = await self._dummy.submit(dummy.probe())
            else:
                loaded = handles[-1].loaded
                image = np.zeros((1, loaded.size, loaded.size, loaded.channels), np.uint8)
                answer = await handles[-1].batcher.submit(image)
        if answer.failed:
            raise answer.failed[0]

    async def close(self) -> None:
        """Answer what was accepted, then stop the processes and threads."""
        await self.registry.close()
        await self._dummy.close()
        self._dummy_thread.shutdown(wait=False)
        await self.decoder.close()

    async def _pixels(self, encoder: Encoder, images: Sequence[bytes | None] | Pixels) -> Decoded:
        size, channels = encoder.resolved["image_size"], encoder.resolved["channels"]
        if isinstance(images, np.ndarray):
            if images.shape[1:] == (size, size, channels):
                return Decoded(images)
            return await asyncio.to_thread(self._prepared, images, size, channels)
        wanted = Wanted(size=size, channels=channels, max_pixels=self._max_pixels)
        decoded = await self.decoder.decode([image or b"" for image in images], wanted)
        decoded.bad.update({i: NOT_BASE64 for i, image in enumerate(images) if image is None})
        return decoded

    def _prepared(self, images: Pixels, size: int, channels: int) -> Decoded:
        """An array by the same rule as files; over the pixel bound every image is."""
        from nidim.data.pixels import prepare_array

        height, width = images.shape[1:3]
        if len(images) and height * width > self._max_pixels:
            bad = ("image_too_large", f"{width}×{height} pixels are over the limit of {self._max_pixels}")
            black = np.zeros((len(images), size, size, channels), np.uint8)
            return Decoded(black, dict.fromkeys(range(len(images)), bad))
        if len(images) == 0:
            return Decoded(np.zeros((0, size, size, channels), np.uint8))
        return Decoded(prepare_array(images, size=size, channels=channels))
