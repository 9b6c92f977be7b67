"""A job at a server: follow it, wait for it, cancel it, try it again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Generic, Literal, Self, TypeVar, cast

from nidim.client.calls import Calls, segment
from nidim.client.drive import Awaiting, Blocking, method, stream
from nidim.client.embedding import Batching
from nidim.client.encoders import AsyncEncoder, Encoder
from nidim.client.errors import JobCancelled, JobFailed
from nidim.client.follow import Follower
from nidim.client.generators import AsyncGenerator as AsyncGeneratorOf
from nidim.client.generators import Generator
from nidim.client.progress import watching
from nidim.client.values import (
    ENDED,
    EncoderInfo,
    Event,
    Failure,
    GeneratorInfo,
    JobInfo,
    JobState,
    Progress,
    Result,
)

J = TypeVar("J")
E = TypeVar("E")
G = TypeVar("G")


class JobLogic(Generic[J, E, G]):
    """What both kinds of client can do with a job; ``info`` is how it was when it was last read."""

    def __init__(self, calls: Calls, info: JobInfo, batching: Batching) -> None:
        self._calls, self.info, self._batching = calls, info, batching
        self._path = f"/v1/jobs/{segment(info.id)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.state}>"

    @property
    def id(self) -> str:
        """``job_…``."""
        return self.info.id

    @property
    def state(self) -> JobState:
        """queued, running, succeeded, failed or cancelled."""
        return self.info.state

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.info.state in ENDED

    @property
    def progress(self) -> Progress | None:
        """How far it is."""
        return self.info.progress

    @property
    def metrics(self) -> dict[str, Any]:
        """mi_nats, capacity_nats, loss, …"""
        return self.info.metrics

    @property
    def result(self) -> Result | None:
        """The encoder or generator that it became."""
        return self.info.result

    @property
    def failure(self) -> Failure | None:
        """Why it failed."""
        return self.info.failure

    @method
    async def refresh(self) -> JobInfo:
        """Read ``info`` again."""
        return await self._refresh()

    @stream
    async def events(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every event with an id above ``after``, once and in order, until the job has ended.

        A connection that breaks is made again, at the last event. Raises ServerUnreachable when that fails for long.
        """
        events = Follower(self._calls, self.id, after).events()
        async with contextlib.aclosing(events) as found:
            async for event in found:
                yield event

    @method
    async def wait(self, *, progress: bool = False, timeout_s: float | None = None) -> J:
        """Wait until the job has succeeded; ``progress`` shows a bar with Î against C.

        Raises JobFailed, JobCancelled; WaitTimeout after ``timeout_s`` (to within the server's heartbeat, 15 s), and
        the job goes on.
        """
        if not self.ended:
            events = Follower(self._calls, self.id, timeout_s=timeout_s).events()
            with watching(self.info, show=progress) as watch:
                async with contextlib.aclosing(events) as found:
                    async for event in found:
                        watch(event)
            await self._refresh()
        self._check()
        return cast("J", self)

    @method
    async def cancel(self) -> JobInfo:
        """Cancel the job, a running one within seconds; twice is no error. Raises Conflict if it ended otherwise."""
        return self._read(await self._calls.post(f"{self._path}/cancel"))

    @method
    async def retry(self) -> J:
        """A new job that goes on from the last checkpoint of this one, failed or cancelled (else Conflict)."""
        return cast("J", self._like(await self._calls.create(f"{self._path}/retry")))

    @method
    async def get_encoder(self) -> E:
        """The encoder of a job that has succeeded. Raises ValueError for any other."""
        found = await self._calls.get(f"/v1/encoders/{self._registered('encoder').id}")
        return self._encoder(EncoderInfo.model_validate(found))

    @method
    async def get_generator(self) -> G:
        """The generator of a job that has succeeded and trained one. Raises ValueError for any other."""
        found = await self._calls.get(f"/v1/generators/{self._registered('generator').id}")
        return self._generator(GeneratorInfo.model_validate(found))

    def _registered(self, what: Literal["encoder", "generator"]) -> Result:
        if getattr(self.info, what) is None:
            other = "get_generator" if what == "encoder" else "get_encoder"
            raise ValueError(f"job {self.id} trains no {what}; use {other}()")
        if self.info.result is None:
            raise ValueError(f"job {self.id} is {self.state}: it has no {what} (yet); wait() for it")
        return self.info.result

    def _encoder(self, info: EncoderInfo) -> E:
        raise NotImplementedError

    def _generator(self, info: GeneratorInfo) -> G:
        raise NotImplementedError

    async def _refresh(self) -> JobInfo:
        return self._read(await self._calls.get(self._path))

    def _read(self, found: Any) -> JobInfo:
        self.info = JobInfo.model_validate(found)
        return self.info

    def _like(self, found: Any) -> Self:
        return type(self)(self._calls, JobInfo.model_validate(found), self._batching)

    def _check(self) -> None:
        if self.state == "failed":
            failure = self.failure or Failure(code="unknown", message="the server names no reason")
            raise JobFailed(self, code=failure.code, message=failure.message)
        if self.state == "cancelled":
            raise JobCancelled(self, code="cancelled", message="it was cancelled before its end")


class Job(JobLogic["Job", Encoder, Generator], Blocking):
    """A training at a server."""

    def _encoder(self, info: EncoderInfo) -> Encoder:
        return Encoder(self._calls, info, self._batching)

    def _generator(self, info: GeneratorInfo) -> Generator:
        return Generator(self._calls, info, self._batching)


class AsyncJob(JobLogic["AsyncJob", AsyncEncoder, AsyncGeneratorOf], Awaiting):
    """A training at a server, for asyncio."""

    def _encoder(self, info: EncoderInfo) -> AsyncEncoder:
        return AsyncEncoder(self._calls, info, self._batching)

    def _generator(self, info: GeneratorInfo) -> AsyncGeneratorOf:
        return AsyncGeneratorOf(self._calls, info, self._batching)
