"""The law that the embeddings of an encoder follow: draw from it, score by it, move along it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nidim.client.calls import JSON, NPY, Calls, json_body, segment
from nidim.client.drive import Awaiting, Blocking, method, stream
from nidim.client.embedding import Batching, Rows, over_batches
from nidim.client.images import Batch, Images, as_array, is_rows, is_vector, npy
from nidim.client.transport import Call
from nidim.client.values import EncoderInfo

PAGE_VALUES = 1 << 20
"""Values (rows × d) of one page of draws, 4 MiB."""


class Scores(NamedTuple):
    """``log_prob`` in nats (−inf outside the support) and ``p_value`` (small: an outlier), both float64 (n,).

    ``p_conformal``: the share of held-out images that are at least as unusual, valid for the encoder as it is; None
    where fewer than 100 were held out, and for encoders that were evaluated before there was such a figure.
    """

    log_prob: NDArray[np.float64]
    p_value: NDArray[np.float64]
    p_conformal: NDArray[np.float64] | None


class PriorLogic:
    """What both kinds of client can do with a prior."""

    def __init__(self, calls: Calls, info: EncoderInfo, batching: Batching) -> None:
        self._calls, self._info, self._batching = calls, info, batching
        self._path = f"/v1/encoders/{segment(info.id)}/prior"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._info.prior.get('kind')}, d = {self.dim}>"

    @property
    def description(self) -> dict[str, Any]:
        """Kind and parameters of the law."""
        return self._info.prior

    @property
    def dim(self) -> int:
        """d."""
        return self._info.dim

    @method
    async def sample(self, n: int, *, seed: int = 0, offset: int = 0, temperature: float = 1.0) -> Rows:
        """Rows [offset, offset + n) of the one infinite stream of ``seed``, float32 (n, d), the same everywhere.

        Raises ValueError for n < 0.
        """
        require_count(n)
        out = np.empty((n, self.dim), dtype=np.float32)
        done = 0
        pages = self._pages(n, seed=seed, offset=offset, temperature=temperature)
        async with contextlib.aclosing(pages) as found:
            async for rows in found:
                out[done : done + len(rows)] = rows
                done += len(rows)
        return out

    @stream
    async def pages(
        self, n: int, *, seed: int = 0, offset: int = 0, temperature: float = 1.0
    ) -> AsyncGenerator[Rows, None]:
        """The same in pages that need not fit into memory together."""
        require_count(n)
        pages = self._pages(n, seed=seed, offset=offset, temperature=temperature)
        async with contextlib.aclosing(pages) as found:
            async for rows in found:
                yield rows

    @method
    async def score(self, images_or_rows: Images) -> Scores:
        """How likely embeddings (n, d), or the embeddings of images, are under the law.

        Raises ValueError for one embedding (d,) that is not a row of an array.
        """
        images_or_rows = as_array(images_or_rows)
        if is_vector(images_or_rows):
            raise ValueError(
                f"embeddings must be (n, {self.dim}), got {np.shape(images_or_rows)}; give x[None] for one"
            )
        if is_rows(images_or_rows):
            rows = np.ascontiguousarray(images_or_rows, dtype=np.float32)
            height = max(1, PAGE_VALUES // self.dim)
            parts = self._calls.transport.ordered(
                self._score_rows,
                (rows[start : start + height] for start in range(0, len(rows), height)),
                at_once=self._batching.at_once,
            )
        else:
            parts = over_batches(self._score_images, images_or_rows, self._calls, self._batching)
        async with contextlib.aclosing(parts) as found:
            done = [part async for part in found]
        return _joined(done)

    @method
    async def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int = 8) -> Rows:
        """``steps`` points from a to b, both (d,) and included, each as likely as a draw when both are draws."""
        ends = {name: np.asarray(end, dtype=np.float64).tolist() for name, end in (("a", a), ("b", b))}
        return await self._rows("interpolate", {**ends, "steps": steps})

    async def _pages(
        self, n: int, *, seed: int, offset: int, temperature: float
    ) -> AsyncGenerator[Rows, None]:
        height = max(1, PAGE_VALUES // self.dim)
        page = functools.partial(self._page, seed=seed, temperature=temperature)
        spans = ((offset + start, min(height, n - start)) for start in range(0, n, height))
        pages = self._calls.transport.ordered(page, spans, at_once=self._batching.at_once)
        async with contextlib.aclosing(pages) as found:
            async for rows in found:
                yield rows

    async def _page(self, span: tuple[int, int], *, seed: int, temperature: float) -> Rows:
        offset, n = span
        return await self._rows(
            "sample", {"n": n, "seed": seed, "offset": offset, "temperature": temperature}
        )

    async def _rows(self, what: str, body: dict[str, Any]) -> Rows:
        call = Call(
            method="POST",
            path=f"{self._path}/{what}",
            headers={"Accept": NPY},
            body=lambda: json_body(body),
            repeatable=True,
        )
        return (await self._calls.rows(call))[0]

    async def _score_rows(self, rows: Rows) -> Scores:
        headers = {"Content-Type": NPY}
        return (await self._scores(lambda: {"content": npy(rows), "headers": headers}))[0]

    async def _score_images(self, batch: Batch) -> list[Scores]:
        return await self._scores(batch.body)

    async def _scores(self, body: Any) -> list[Scores]:
        call = Call(
            method="POST",
            path=f"{self._path}/score",
            headers={"Accept": JSON},
            body=body,
            repeatable=True,
        )
        found = (await self._calls.answer(call)).json()
        conformal = found.get("p_conformal")
        return [
            Scores(
                _filled(found["log_prob"], -np.inf),
                _filled(found["p_value"], np.nan),
                None if conformal is None else _filled(conformal, np.nan),
            )
        ]


def require_count(n: int) -> None:
    """Raises ValueError below 0."""
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")


def _joined(parts: list[Scores]) -> Scores:
    conformal = [part.p_conformal for part in parts if part.p_conformal is not None]
    return Scores(
        np.concatenate([np.empty(0), *(part.log_prob for part in parts)]),
        np.concatenate([np.empty(0), *(part.p_value for part in parts)]),
        np.concatenate(conformal) if conformal else None,
    )


def _filled(values: list[float | None], missing: float) -> NDArray[np.float64]:
    return np.array([missing if value is None else value for value in values], dtype=np.float64)


class Prior(PriorLogic, Blocking):
    """The law of an encoder."""


class AsyncPrior(PriorLogic, Awaiting):
    """The law of an encoder, for asyncio."""
