"""Images in, rows out: decode, queue, forward. The whole of serving without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference import cores, dummy, engine
from service.inference.admission import Bound
from service.inference.batcher import Batcher
from service.inference.calibrations import Calibrations
from service.inference.decoder_slot import Decoded, Wanted
from service.inference.decoding import DecodePool, Patience
from service.inference.laws import Laws
from service.inference.registry import Notes, Registry, label
from service.inference.room import Budget, Room
from service.inference.watch import Unwatched, Watch
from service.settings import Settings
from service.store import Blobs
from service.store.encoders import Encoder

Pixels = NDArray[np.uint8]
Given = Sequence[bytes | None] | Pixels
Bad = dict[int, tuple[str, str]]
"""Index -> (code, message) of images that cannot be used."""

STEP_BYTES = 32 << 20
"""Of prepared pixels: what one request holds at a time."""
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


def prepared_bytes(encoder: Encoder) -> int:
    """Of one image as the encoder takes it."""
    size, channels = encoder.resolved["image_size"], encoder.resolved["channels"]
    return int(size * size * channels)


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Parts of one request, one after the other, as a whole."""
    if len(parts) == 1:
        return parts[0]
    bad: Bad = {}
    failed: dict[int, Exception] = {}
    offset = 0
    for part in parts:
        bad |= {offset + i: what for i, what in part.bad.items()}
        failed |= {offset + i: error for i, error in part.failed.items()}
        offset += len(part.rows)
    return Embedded(
        encoder=parts[0].encoder,
        rows=np.concatenate([part.rows for part in parts]),
        bad=bad,
        failed=failed,
        decode_s=sum(part.decode_s for part in parts),
        queue_s=sum(part.queue_s for part in parts),
        forward_s=sum(part.forward_s for part in parts),
        batch=max(part.batch for part in parts),
    )


def _nowhere(n: int, encoder: Encoder) -> NDArray[np.float32]:
    return np.full((n, encoder.dim), np.nan, np.float32)


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
        self._max_pixels = settings.max_pixels
        bound = Bound(settings.serve_queue_images, settings.serve_queue_s)
        self.decoder = DecodePool(
            cores.decoders(settings),
            timeout_s=settings.decode_timeout_s,
            bound=bound,
            watch=self._watch,
        )
        load = functools.partial(
            engine.load,
            blobs=blobs,
            device=settings.serve_device,
            threads=cores.threads(settings),
            scratch=scratch,
            engine=settings.engine,
        )
        self.laws, self.calibrations = Laws(blobs, notes), Calibrations()
        self.registry = Registry(
            load,
            max_bytes=settings.serve_cache_bytes,
            max_batch=settings.serve_batch_images,
            bound=bound,
            watch=self._watch,
            notes=notes,
        )
        self._dummy_thread = ThreadPoolExecutor(1, thread_name_prefix="dummy")
        self._dummy = Batcher(
            dummy.embed, dim=dummy.DIM, max_batch=8, bound=Bound(64), executor=self._dummy_thread
        )
        self.budget = Budget(settings.serve_inflight_bytes)

    @property
    def waiting(self) -> int:
        """Images in all queues."""
        return sum(handle.batcher.waiting for handle in self.registry.handles)

    async def embed(
        self, encoder: Encoder, images: Given, *, keep_going: bool = False, room: Room | None = None
    ) -> Embedded:
        """The rows of image files, or of an array (n, h, w[, c]).

        Prepared and embedded a step at a time: however large the images of the encoder are, a request holds
        ``STEP_BYTES`` of them in its ``room``, or one.
        Raises BadImagesFound unless ``keep_going``, with every bad image; TooManyBytes, QueueFull, BatcherClosed,
        Damaged.
        """
        if not isinstance(images, np.ndarray):
            self.decoder.admit(len(images))
        each = prepared_bytes(encoder)
        height = max(1, STEP_BYTES // each)
        parts: list[Embedded] = []
        patience = Patience()
        with room.holding(min(len(images), height) * each) if room else contextlib.nullcontext():
            for start in range(0, max(len(images), 1), height):
                decoded, decode_s = await self._decoded(encoder, images[start : start + height], patience)
                part = Embedded(
                    label(encoder), _nowhere(len(decoded.pixels), encoder), decoded.bad, {}, decode_s
                )
                if keep_going or not any(known.bad for known in [*parts, part]):
                    part = await self._forward(encoder, decoded, part, begun=start > 0)
                parts.append(part)
        done = joined(parts)
        if done.bad and not keep_going:
            raise BadImagesFound(done.bad)
        self._watch.request(decode_s=done.decode_s, queue_s=done.queue_s)
        return done

    async def _decoded(self, encoder: Encoder, images: Given, patience: Patience) -> tuple[Decoded, float]:
        """The pixels of one step, and the seconds that they took."""
        started = time.perf_counter()
        decoded = await self._pixels(encoder, images, patience)
        for code, _ in decoded.bad.values():
            self._watch.undecodable(code)
        return decoded, time.perf_counter() - started

    async def _forward(self, encoder: Encoder, decoded: Decoded, part: Embedded, *, begun: bool) -> Embedded:
        """``part`` with the rows of its good images."""
        good = [i for i in range(len(decoded.pixels)) if i not in decoded.bad] if decoded.bad else None
        async with self.registry.use(encoder) as handle:
            pixels = decoded.pixels if good is None else decoded.pixels[good]
            answer = await handle.batcher.submit(pixels, begun=begun)
        if good is None:
            rows, failed = answer.rows, answer.failed
        else:
            rows, failed = part.rows, {good[i]: error for i, error in answer.failed.items()}
            rows[good] = answer.rows
        return Embedded(
            part.encoder,
            rows,
            part.bad,
            failed,
            part.decode_s,
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

    async def _pixels(self, encoder: Encoder, images: Given, patience: Patience) -> Decoded:
        size, channels = encoder.resolved["image_size"], encoder.resolved["channels"]
        if isinstance(images, np.ndarray):
            if images.shape[1:] == (size, size, channels):
                return Decoded(images)
            return await asyncio.to_thread(self._prepared, images, size, channels)
        wanted = Wanted(size=size, channels=channels, max_pixels=self._max_pixels)
        decoded = await self.decoder.decode([image or b"" for image in images], wanted, patience)
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
