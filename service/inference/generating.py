"""From embeddings to images: generators in memory, each with its queue. No HTTP.

A generator shares the machinery of encoders: a registry that loads each once and lets the least recently used go, and a
batcher in front of each. A row of a batch is the condition and the noise of one image; what comes back is its pixels.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator
from nidim.spec.generator import noise_values as spec_noise_values
from service.inference import cores, engine
from service.inference.admission import Bound
from service.inference.engine import Damaged, Loaded
from service.inference.registry import Notes, Registry
from service.inference.runtimes import pin
from service.settings import Settings
from service.store import Blobs
from service.store.encoders import Encoder

Pixels = NDArray[np.uint8]
BATCH = 32
"""Images of one pass: a second or so on one thread, within which nobody can be served."""


GENERATED_SLOWER = 10
"""Times that who wants pictures waits longer than who wants embeddings: they take hundreds of times as long to make."""


class Generating:
    """One per process."""

    def __init__(
        self, settings: Settings, blobs: Blobs, *, scratch: Path, notes: Notes | None = None
    ) -> None:
        load = functools.partial(
            load_generator,
            blobs=blobs,
            device=settings.serve_device,
            threads=cores.threads(settings),
            scratch=scratch,
        )
        self.registry = Registry(
            load,
            max_bytes=settings.serve_cache_bytes,
            max_batch=BATCH,
            bound=Bound(settings.serve_queue_images, GENERATED_SLOWER * settings.serve_queue_s),
            notes=notes,
        )

    async def images(
        self,
        generator: Encoder,
        prior: engine.Prior,
        embeddings: NDArray[np.float32],
        *,
        seed: int,
        offset: int,
        same_noise: bool = False,
    ) -> Pixels:
        """Images (n, h, w, c) of embeddings (n, d); row i takes noise of row offset + i of the stream ``seed``.

        ``same_noise``: each takes that of row ``offset``.

        Raises QueueFull, BatcherClosed, Damaged, and whatever the generator failed with.
        """
        size, channels = generator.resolved["image_size"], generator.resolved["channels"]
        if len(embeddings) == 0:
            return np.empty((0, size, size, channels), np.uint8)
        async with self.registry.use(generator) as handle:
            rows = await asyncio.to_thread(
                _rows, prior, embeddings, noise_values(generator), seed=seed, offset=offset, same=same_noise
            )
            answer = await handle.batcher.submit(rows)
        for error in answer.failed.values():
            raise error
        return answer.rows.astype(np.uint8).reshape(-1, size, size, channels)

    async def close(self) -> None:
        """Answer what was accepted, then let all go."""
        await self.registry.close()


def noise_values(generator: Encoder) -> int:
    """How many numbers of noise an image takes."""
    spec = FullGeneratorSpec.model_validate(generator.spec)
    return spec_noise_values(spec.model, ResolvedGenerator.model_validate(generator.resolved))


def _rows(
    prior: engine.Prior, embeddings: NDArray[np.float32], values: int, *, seed: int, offset: int, same: bool
) -> NDArray[np.float32]:
    from nidim.generate.draw import condition, noise

    drawn = noise(values, len(embeddings), seed=seed, offset=offset, same=same)
    return np.concatenate([condition(prior, embeddings), drawn], axis=1)


def load_generator(generator: Encoder, blobs: Blobs, *, device: str, threads: int, scratch: Path) -> Loaded:
    """Fetch, verify and build a generator. Raises Damaged."""
    from nidim.errors import BundleError
    from nidim.generate.bundle import load as load_bundle
    from nidim.generate.draw import images_of

    with tempfile.TemporaryDirectory(dir=scratch, prefix="generator-") as directory:
        for name, file in generator.files.items():
            engine.fetch(blobs, file.digest, Path(directory) / name)
        try:
            bundle = load_bundle(Path(directory), expect=engine.manifest(generator))
        except BundleError as error:
            raise Damaged("the files do not fit together") from error
    model, dim = bundle.model.to(device), generator.dim

    def forward(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        made = images_of(model, rows[:, :dim], rows[:, dim:])
        return made.reshape(len(rows), -1).astype(np.float32)

    size, channels = generator.resolved["image_size"], generator.resolved["channels"]
    return Loaded(
        forward=forward,
        dim=size * size * channels,
        size=size,
        channels=channels,
        size_bytes=generator.size_bytes,
        executor=ThreadPoolExecutor(1, thread_name_prefix="generate", initializer=pin, initargs=(threads,)),
    )
