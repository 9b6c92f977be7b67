"""Images to rows, in requests that a server takes: batched, several at a time, in order, in bounded memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nidim.client.calls import NPY, Calls
from nidim.client.errors import NidimServerError, TooLarge
from nidim.client.images import Batch, Images, batches
from nidim.client.transport import Call
from nidim.errors import NidimError

Rows = NDArray[np.float32]
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Images and bytes of one request, and requests at a time: together the memory that an embedding takes.

    Below the server's own limits (4096 images, 64 MiB unless its operator chose others); a request that is too large
    nevertheless is halved.
    """

    images: int = 1024
    bytes: int = 16 << 20
    at_once: int = 4


@dataclass(frozen=True, kw_only=True)
class Noise:
    """f(x) + Z: row i of everything that is embedded gets row i of the stream ``seed``."""

    seed: int


@dataclass(frozen=True)
class Embedder:
    """Embeds with one version of an encoder, which ``path`` names."""

    calls: Calls
    path: str
    batching: Batching

    def pages(
        self, images: Images, *, noise: Noise | None, on_error: str | None
    ) -> AsyncGenerator[Rows, None]:
        """Rows (n_i, d) of one batch after the other, in input order."""
        return over_batches(
            functools.partial(self._embed, noise=noise, on_error=on_error), images, self.calls, self.batching
        )

    async def _embed(self, batch: Batch, *, noise: Noise | None, on_error: str | None) -> list[Rows]:
        params: dict[str, Any] = {} if on_error is None else {"on_error": on_error}
        if noise is not None:
            params |= {"noisy": "true", "seed": noise.seed, "offset": batch.first}
        call = Call(
            method="POST",
            path=f"{self.path}/embed",
            headers={"Accept": NPY},
            params=params,
            body=batch.body,
            repeatable=True,
        )
        rows, headers = await self.calls.rows(call)
        if noise is not None and headers.get("x-offset") != str(batch.first):
            raise NidimError(
                "This server has no offset of noise, so that batches would share theirs; embed fewer images at a time."
            )
        return [rows]


async def over_batches(
    work: Callable[[Batch], Coroutine[Any, Any, list[R]]], images: Images, calls: Calls, batching: Batching
) -> AsyncGenerator[R, None]:
    """``work`` on every batch, in order; errors count images from the first one that was given."""

    async def each(batch: Batch) -> list[R]:
        try:
            return await work(batch)
        except TooLarge as error:
            if error.code != "too_large" or len(batch) < 2:
                raise error.shifted(batch.first) from None
        except NidimServerError as error:
            raise error.shifted(batch.first) from None
        left, right = batch.halves()
        return [*await each(left), *await each(right)]

    cut = batches(images, most_images=batching.images, most_bytes=batching.bytes)
    done = calls.transport.ordered(each, cut, at_once=batching.at_once)
    async with contextlib.aclosing(done) as found:
        async for results in found:
            for result in results:
                yield result


async def stacked(pages: AsyncGenerator[Rows, None], dim: int) -> Rows:
    """All rows, float32 (n, ``dim``)."""
    async with contextlib.aclosing(pages) as found:
        parts = [rows async for rows in found]
    return np.concatenate(parts) if parts else np.empty((0, dim), dtype=np.float32)
