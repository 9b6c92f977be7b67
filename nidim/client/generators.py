"""One version of a generator at a server: images of draws of its prior, of embeddings, or of images."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nidim.client.calls import NPY, json_body
from nidim.client.drive import Awaiting, Blocking, method
from nidim.client.embedding import over_batches
from nidim.client.images import Batch, Images
from nidim.client.prior import require_count
from nidim.client.stored import StoredLogic
from nidim.client.transport import Call
from nidim.client.values import GeneratorInfo

Pixels = NDArray[np.uint8]
PAGE = 128
"""Images of one request: seconds of work for a server without a GPU, below its limit of 1024."""


class GeneratorLogic(StoredLogic[GeneratorInfo]):
    """What both kinds of client can do with a generator."""

    collection = "generators"

    @property
    def source(self) -> str:
        """The encoder that it was trained with, ``name@version``."""
        return self.info.source

    @method
    async def generate(
        self, n: int = 16, *, seed: int = 0, offset: int = 0, temperature: float = 1.0
    ) -> Pixels:
        """Images of rows [offset, offset + n) of the prior's stream ``seed``, uint8 (n, h, w, c).

        No image and no embedding is sent or needed. The same arguments give the same images, and pages agree with one
        large draw. Raises ValueError for n below 0, Invalid where the law has no ``temperature``.
        """
        require_count(n)
        pages = [
            await self._made(
                {
                    "n": min(PAGE, n - row),
                    "seed": seed,
                    "offset": offset + row,
                    "temperature": temperature,
                }
            )
            for row in range(0, n, PAGE)
        ]
        return self._joined(pages)

    @method
    async def from_embeddings(
        self, embeddings: ArrayLike, *, seed: int = 0, same_noise: bool = False
    ) -> Pixels:
        """Images of embeddings (n, d), uint8 (n, h, w, c); ``seed``: of what the embedding leaves open.

        ``same_noise``: that is the same for all, so that on a walk only the embedding changes.
        """
        rows = np.asarray(embeddings, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"embeddings must be (n, {self.dim}), not {rows.shape}")
        pages = [
            await self._made(
                {
                    "embeddings": rows[low : low + PAGE].tolist(),
                    "seed": seed,
                    "offset": 0 if same_noise else low,
                    "same_noise": same_noise,
                }
            )
            for low in range(0, len(rows), PAGE)
        ]
        return self._joined(pages)

    @method
    async def from_images(self, images: Images, *, seed: int = 0) -> Pixels:
        """Images like given ones, uint8 (n, h, w, c): they are embedded first. ``images``: as for ``embed``.

        Raises BadImage with the ``index`` of one that cannot be read, Conflict where the encoder is gone.
        """

        async def made(batch: Batch) -> list[Pixels]:
            return [await self._answer(dict(batch.body()), {"seed": seed, "offset": batch.first})]

        batching = dataclasses.replace(self._batching, images=PAGE, at_once=1)
        return self._joined([page async for page in over_batches(made, images, self._calls, batching)])

    def _joined(self, pages: list[Pixels]) -> Pixels:
        size, channels = self.info.resolved["image_size"], self.info.resolved["channels"]
        return np.concatenate([np.empty((0, size, size, channels), np.uint8), *pages])

    async def _made(self, body: dict[str, Any]) -> Pixels:
        return await self._answer(dict(json_body(body)), {})

    async def _answer(self, body: dict[str, Any], params: dict[str, Any]) -> Pixels:
        call = Call(
            method="POST",
            path=f"{self._path}/generate",
            headers={"Accept": NPY},
            params=params,
            body=lambda: body,
            repeatable=True,
        )
        answer = await self._calls.answer(call)
        found: Pixels = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return found


class Generator(GeneratorLogic, Blocking):
    """One version of a generator."""


class AsyncGenerator(GeneratorLogic, Awaiting):
    """One version of a generator, for asyncio."""
