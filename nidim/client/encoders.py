"""One version of an encoder at a server: embed with it, draw from its law, take its files."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator
from typing import Any, Generic, Literal, TypeVar

from nidim.client.calls import Calls, segment
from nidim.client.drive import Awaiting, Blocking, method, stream
from nidim.client.embedding import Batching, Embedder, Noise, Rows, stacked
from nidim.client.images import Images
from nidim.client.prior import AsyncPrior, Prior
from nidim.client.stored import StoredLogic
from nidim.client.values import AliasInfo, DriftInfo, EncoderInfo

L = TypeVar("L")
OnError = Literal["fail", "null"]


class EncoderLogic(StoredLogic[EncoderInfo], Generic[L]):
    """What both kinds of client can do with an encoder.

    It is one version, whatever reference it was found by: a newer one that appears meanwhile changes nothing here.
    """

    prior: L
    """The law that the embeddings follow."""

    collection = "encoders"

    @method
    async def embed(
        self,
        images: Images,
        *,
        noisy: bool = False,
        seed: int | None = None,
        on_error: OnError = "fail",
    ) -> Rows:
        """Embeddings of images, float32 (n, d), row i of image i.

        ``images``: a path, bytes, a uint8 array (n, h, w) or (n, h, w, c), a PIL image, a torch tensor (n, c, h, w), or
        any iterable of those, a DataLoader included. ``noisy``: f(x) + Z, row i of the stream ``seed`` for image i,
        whatever the batching. ``on_error="null"``: the row of a bad image is NaN. Raises BadImage and other errors of
        the server, ServerUnreachable; TypeError and ValueError for what is no image.
        """
        pages = self._pages(images, noisy=noisy, seed=seed, on_error=on_error)
        return await stacked(pages, self.dim)

    @stream
    async def embed_pages(
        self,
        images: Images,
        *,
        noisy: bool = False,
        seed: int | None = None,
        on_error: OnError = "fail",
    ) -> AsyncGenerator[Rows, None]:
        """The same in pages (n_i, d), in order, for results that need not fit into memory together."""
        pages = self._pages(images, noisy=noisy, seed=seed, on_error=on_error)
        async with contextlib.aclosing(pages) as found:
            async for rows in found:
                yield rows

    @method
    async def alias(self, alias: str, *, if_match: str | None = None) -> AliasInfo:
        """Point ``name:alias`` to this version; with ``if_match`` only while its ETag is this.

        Raises PreconditionFailed where it has moved since, or is gone.
        """
        body = {"version": self.info.version}
        return AliasInfo.model_validate(
            await self._calls.change("PUT", self._alias(alias), body, headers=_only_if(if_match))
        )

    @method
    async def unalias(self, alias: str, *, if_match: str | None = None) -> None:
        """Delete ``name:alias``, wherever it points, or only while its ETag is ``if_match``; the version stays."""
        await self._calls.change("DELETE", self._alias(alias), headers=_only_if(if_match))

    @method
    async def refresh(self) -> EncoderInfo:
        """Read ``info`` again: its aliases may have changed."""
        self.info = EncoderInfo.model_validate(await self._calls.get(self._path))
        return self.info

    @method
    async def drift(self) -> DriftInfo:
        """How far images embedded since the reset are from the prior, beyond what held-out ones showed."""
        return DriftInfo.model_validate(await self._calls.get(f"{self._path}/drift"))

    @method
    async def reset_drift(self) -> DriftInfo:
        """Forget what was watched of this version, its alarm included. Needs a key with the scope ``admin``."""
        return DriftInfo.model_validate(await self._calls.change("POST", f"{self._path}/drift/reset"))

    def _alias(self, alias: str) -> str:
        return f"/v1/encoders/{segment(self.info.name)}/aliases/{segment(alias)}"

    def _pages(
        self, images: Images, *, noisy: bool, seed: int | None, on_error: OnError
    ) -> AsyncGenerator[Rows, None]:
        if seed is not None and not noisy:
            raise ValueError("seed is of the noise: give noisy=True with it")
        noise = Noise(seed=secrets.randbelow(2**63) if seed is None else seed) if noisy else None
        embedder = Embedder(self._calls, self._path, self._batching)
        return embedder.pages(images, noise=noise, on_error=None if on_error == "fail" else on_error)


def _only_if(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}


class Encoder(EncoderLogic[Prior], Blocking):
    """One version of an encoder."""

    def __init__(self, calls: Calls, info: EncoderInfo, batching: Batching) -> None:
        super().__init__(calls, info, batching)
        self.prior = Prior(calls, info, batching)

    @property
    def server(self) -> dict[str, Any]:
        """The arguments with which another process makes a client of the same server; holds the key."""
        return self._calls.server


class AsyncEncoder(EncoderLogic[AsyncPrior], Awaiting):
    """One version of an encoder, for asyncio."""

    def __init__(self, calls: Calls, info: EncoderInfo, batching: Batching) -> None:
        super().__init__(calls, info, batching)
        self.prior = AsyncPrior(calls, info, batching)
