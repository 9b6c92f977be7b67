"""``Client`` and ``AsyncClient``: the way in."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, Self, TypeVar

import httpx

from nidim import __version__
from nidim.client.calls import JSON, Calls, segment
from nidim.client.drive import Awaiting, Blocking, method, stream
from nidim.client.embedding import Batching
from nidim.client.encoders import AsyncEncoder, Encoder
from nidim.client.generators import AsyncGenerator as AsyncGeneratorOf
from nidim.client.generators import Generator
from nidim.client.jobs import AsyncJob, Job
from nidim.client.retry import RetryPolicy
from nidim.client.transport import AwaitingTransport, BlockingTransport
from nidim.client.uploads import AsyncDatasets, Datasets
from nidim.client.values import EncoderInfo, GeneratorInfo, JobInfo, JobState, Priority
from nidim.spec import TrainSpec
from nidim.spec.generator import GeneratorSpec

URL, KEY = "NIDIM_URL", "NIDIM_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 10.0

J = TypeVar("J")
E = TypeVar("E")
G = TypeVar("G")
D = TypeVar("D")


class ClientLogic(Generic[J, E, G, D]):
    """What both kinds of client can do."""

    url: str
    datasets: D
    """Datasets at the server."""
    _calls: Calls
    _batching: Batching

    @method
    async def health(self, *, patience_s: float | None = None) -> dict[str, Any]:
        """``status`` and ``version`` of a server that is there; needs no key.

        ``patience_s`` bounds the retries of this one request. Raises ServerUnreachable.
        """
        policy = self._calls.policy
        policy = policy if patience_s is None else dataclasses.replace(policy, total_s=patience_s)
        found: dict[str, Any] = await Calls(self._calls.transport, policy).get("/healthz")
        return found

    @method
    async def train(
        self,
        spec: TrainSpec | GeneratorSpec | Mapping[str, Any],
        *,
        encoder: str | None = None,
        generator: str | None = None,
        priority: Priority = "normal",
    ) -> J:
        """Submit a training; what it makes is registered as the next version of the name ``encoder``, or ``generator``.

        Everything that ``spec`` does not set is chosen by the server, to suit the dataset. Raises Invalid with the
        places to blame, Conflict for a dataset that is not available, Busy; TypeError for what is no spec.
        """
        if not isinstance(spec, Mapping | TrainSpec | GeneratorSpec):
            raise TypeError(
                f'a spec is a dict such as {{"dataset": "digits"}}, a TrainSpec or a GeneratorSpec; got {spec!r}'
            )
        values = dict(spec) if isinstance(spec, Mapping) else spec.model_dump(mode="json", exclude_unset=True)
        names = {"encoder": encoder, "generator": generator}
        given = {what: name for what, name in names.items() if name is not None}
        return await self._submit({"spec": values, "priority": priority, **given})

    @method
    async def job(self, job_id: str) -> J:
        """One job. Raises NotFound."""
        return self._job(JobInfo.model_validate(await self._calls.get(f"/v1/jobs/{segment(job_id)}")))

    @stream
    async def jobs(self, *, state: JobState | None = None) -> AsyncGenerator[J, None]:
        """Jobs, newest first, read page by page."""
        async with contextlib.aclosing(self._calls.listed("/v1/jobs", state=state)) as items:
            async for item in items:
                yield self._job(JobInfo.model_validate(item))

    @method
    async def encoder(self, ref: str) -> E:
        """The encoder that ``name`` (its newest version), ``name@3``, ``name:alias`` or ``enc_…`` means now."""
        return self._encoder(
            EncoderInfo.model_validate(await self._calls.get(f"/v1/encoders/{segment(ref)}"))
        )

    @stream
    async def encoders(self, *, name: str | None = None) -> AsyncGenerator[E, None]:
        """Encoders, newest first, read page by page; with ``name`` its versions only."""
        async with contextlib.aclosing(self._calls.listed("/v1/encoders", name=name)) as items:
            async for item in items:
                yield self._encoder(EncoderInfo.model_validate(item))

    @method
    async def generator(self, ref: str) -> G:
        """The generator that ``name`` (its newest version), ``name@3`` or ``gen_…`` means now. Raises NotFound."""
        found = await self._calls.get(f"/v1/generators/{segment(ref)}")
        return self._generator(GeneratorInfo.model_validate(found))

    @stream
    async def generators(self, *, name: str | None = None) -> AsyncGenerator[G, None]:
        """Generators, newest first, read page by page; with ``name`` its versions only."""
        async with contextlib.aclosing(self._calls.listed("/v1/generators", name=name)) as items:
            async for item in items:
                yield self._generator(GeneratorInfo.model_validate(item))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {httpx.URL(self.url).copy_with(userinfo=b'')}>"

    async def _submit(self, body: Mapping[str, Any]) -> J:
        return self._job(JobInfo.model_validate(await self._calls.create("/v1/jobs", body)))

    def _job(self, info: JobInfo) -> J:
        raise NotImplementedError

    def _encoder(self, info: EncoderInfo) -> E:
        raise NotImplementedError

    def _generator(self, info: GeneratorInfo) -> G:
        raise NotImplementedError


class Client(ClientLogic[Job, Encoder, Generator, Datasets], Blocking):
    """A server of nidim.

    ``url`` and ``key`` come from ``NIDIM_URL`` and ``NIDIM_KEY`` where they are not given. ``timeout_s`` bounds every
    silence of the server, ``retry`` how long requests that are safe to repeat are repeated, ``batching`` the memory
    of an embedding. May be shared by threads. A context manager, which closes the connections.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy = RetryPolicy(),
        batching: Batching = Batching(),
    ) -> None:
        http = httpx.Client(**options(url, key, timeout_s))
        self.url, self._batching = str(http.base_url), batching
        server = {"url": url, "key": key, "timeout_s": timeout_s, "retry": retry, "batching": batching}
        self._calls = Calls(BlockingTransport(http), retry, server)
        self.datasets = Datasets(self._calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @method
    async def close(self) -> None:
        """Close the connections."""
        await self._calls.transport.close()

    def _job(self, info: JobInfo) -> Job:
        return Job(self._calls, info, self._batching)

    def _encoder(self, info: EncoderInfo) -> Encoder:
        return Encoder(self._calls, info, self._batching)

    def _generator(self, info: GeneratorInfo) -> Generator:
        return Generator(self._calls, info, self._batching)


class AsyncClient(ClientLogic[AsyncJob, AsyncEncoder, AsyncGeneratorOf, AsyncDatasets], Awaiting):
    """The same for asyncio: every method is awaited, every list is ``async for``. One event loop only."""

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy = RetryPolicy(),
        batching: Batching = Batching(),
    ) -> None:
        http = httpx.AsyncClient(**options(url, key, timeout_s))
        self.url, self._batching = str(http.base_url), batching
        self._calls = Calls(AwaitingTransport(http), retry)
        self.datasets = AsyncDatasets(self._calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @method
    async def close(self) -> None:
        """Close the connections."""
        await self._calls.transport.close()

    def _job(self, info: JobInfo) -> AsyncJob:
        return AsyncJob(self._calls, info, self._batching)

    def _encoder(self, info: EncoderInfo) -> AsyncEncoder:
        return AsyncEncoder(self._calls, info, self._batching)

    def _generator(self, info: GeneratorInfo) -> AsyncGeneratorOf:
        return AsyncGeneratorOf(self._calls, info, self._batching)


def options(url: str | None, key: str | None, timeout_s: float) -> dict[str, Any]:
    """httpx's options. Raises ValueError for an address that is none, or a key that cannot be one."""
    address = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
    parsed = httpx.URL(address)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{address!r} is no address of a server; give one such as {DEFAULT_URL}")
    if parsed.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"the address of a server ends before /v1; give {address.removesuffix('/v1')}")
    secret = (key or os.environ.get(KEY) or "").strip()
    if not secret.isascii() or not secret.isprintable():
        raise ValueError(f"the key (argument or {KEY}) must be printable ASCII, nk_…")
    headers = {"Accept": JSON, "User-Agent": f"nidim/{__version__}"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    here = _is_loopback(parsed.host)
    return {
        "base_url": address,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        "trust_env": not here,
        "verify": not (here and parsed.scheme == "http"),  # to read certificates takes longer than a request
    }


def _is_loopback(host: str) -> bool:
    """Whether no proxy of the environment can lead there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
