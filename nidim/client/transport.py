"""How a request reaches the server: over httpx, blocking or not. The only place where the two clients differ.

A transport sends one :class:`Call` once and knows nothing of retries, problems or the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx

from nidim.client.drive import run

T = TypeVar("T")
R = TypeVar("R")
_END = object()


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. ``body`` makes httpx's arguments of its body, for each try; ``repeatable``: safe to send again."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Callable[[], Mapping[str, Any]] = dict
    repeatable: bool = False
    read_timeout_s: float | None = None

    def arguments(self, timeout: httpx.Timeout) -> dict[str, Any]:
        """For ``build_request``; a body's ``headers`` come on top."""
        body = dict(self.body())
        if self.read_timeout_s is not None:
            timeout = httpx.Timeout(**{**timeout.as_dict(), "read": self.read_timeout_s})
        headers = {**self.headers, **body.pop("headers", {})}
        return {
            "method": self.method,
            "url": self.path,
            "headers": headers,
            "params": self.params,
            "timeout": timeout,
            **body,
        }


class Transport(Protocol):
    """What the logic needs. Raises httpx.TransportError where no answer comes."""

    def opened(self, call: Call) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        """An answer whose body has not been read."""

    async def read(self, answer: httpx.Response) -> None:
        """Read the body: ``answer.content`` is there afterwards."""

    def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The body as it arrives."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def ordered(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], *, at_once: int
    ) -> AsyncGenerator[R, None]:
        """The results in the order of ``items``; ``at_once`` are at work, more are taken as they are done."""

    async def close(self) -> None:
        """Give the connections back."""


class BlockingTransport:
    """Over httpx.Client; every await blocks the thread."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @contextlib.asynccontextmanager
    async def opened(self, call: Call) -> AsyncGenerator[httpx.Response]:
        request = self._http.build_request(**call.arguments(self._http.timeout))
        answer = self._http.send(request, stream=True)
        try:
            yield answer
        finally:
            answer.close()

    async def read(self, answer: httpx.Response) -> None:
        answer.read()

    async def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        for piece in answer.iter_bytes():
            yield piece

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def ordered(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], *, at_once: int
    ) -> AsyncGenerator[R, None]:
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="nidim-client")
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(waiting) == at_once:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(_worked, work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=not waiting, cancel_futures=True)

    async def close(self) -> None:
        self._http.close()


def _worked(work: Callable[[T], Coroutine[Any, Any, R]], item: T) -> R:
    return run(work(item))


class AwaitingTransport:
    """Over httpx.AsyncClient, for asyncio."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @contextlib.asynccontextmanager
    async def opened(self, call: Call) -> AsyncGenerator[httpx.Response]:
        request = self._http.build_request(**call.arguments(self._http.timeout))
        answer = await self._http.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def read(self, answer: httpx.Response) -> None:
        await answer.aread()

    async def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        async for piece in answer.aiter_bytes():
            yield piece

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def ordered(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], *, at_once: int
    ) -> AsyncGenerator[R, None]:
        """Items are taken in a thread: reading files must not hold up the event loop."""
        source = iter(items)
        waiting: deque[asyncio.Task[R]] = deque()
        try:
            while (item := await asyncio.to_thread(next, source, _END)) is not _END:
                if len(waiting) == at_once:
                    yield await waiting.popleft()
                waiting.append(asyncio.create_task(work(item)))  # type: ignore[arg-type]
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        await self._http.aclose()
