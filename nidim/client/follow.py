"""The events of a job, each exactly once and in order, over as many connections as it takes."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator

import httpx

from nidim.client.calls import JSON, Calls, segment, unreachable
from nidim.client.errors import NidimServerError, ServerUnreachable, WaitTimeout
from nidim.client.retry import Tries
from nidim.client.sse import Parser
from nidim.client.transport import Call
from nidim.client.values import ENDED, Event

SILENCE_S = 60.0
"""A stream that is silent for so long is dead: the server sends a comment every 15 s."""


class Follower:
    """Follows one job; ``after`` is the id of the last event that was given out."""

    def __init__(self, calls: Calls, job_id: str, after: int = 0, *, timeout_s: float | None = None) -> None:
        self._calls, self._path, self.after = calls, f"/v1/jobs/{segment(job_id)}", after
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._heard = False
        self._policy = calls.policy

    async def events(self) -> AsyncGenerator[Event, None]:
        """Until the job has ended. Raises ServerUnreachable, NidimServerError, WaitTimeout."""
        tries = Tries(self._policy)
        while True:
            problem: NidimServerError | ServerUnreachable | None = None
            self._heard = False
            try:
                async with contextlib.aclosing(self._connection()) as events:
                    async for event in events:
                        yield event
                        if event.ends:
                            return
            except (NidimServerError, ServerUnreachable) as error:
                problem = error
            if problem is None and await self._has_ended():
                async with contextlib.aclosing(self._stored()) as events:
                    async for event in events:
                        yield event
                return
            tries = Tries(self._policy) if self._heard else tries
            await self._pause(tries, problem)

    async def _pause(self, tries: Tries, problem: NidimServerError | ServerUnreachable | None) -> None:
        self._check_time()
        wait_s = tries.after(problem if isinstance(problem, NidimServerError) else None)
        if wait_s is None:
            raise problem or ServerUnreachable("The event stream ends again and again without a word.")
        await self._calls.transport.sleep(wait_s)

    async def _connection(self) -> AsyncGenerator[Event, None]:
        """What one connection brings."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.after:
            headers["Last-Event-ID"] = str(self.after)
        call = Call(
            method="GET", path=f"{self._path}/events", headers=headers, read_timeout_s=self._silence_s()
        )
        parser = Parser()
        async with (
            self._calls.once(call) as answer,
            contextlib.aclosing(self._pieces(answer)) as pieces,
        ):
            async for piece in pieces:
                self._heard = True
                self._check_time()
                for message in parser.feed(piece):
                    if message.retry_ms is not None:
                        self._policy = dataclasses.replace(self._policy, base_s=message.retry_ms / 1000)
                    event = Event.model_validate_json(message.data) if message.data else None
                    if event is not None and event.id > self.after:
                        self.after = event.id
                        yield event

    async def _pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self._calls.transport.pieces(answer)) as pieces:
            with unreachable(f"{self._path}/events"):
                async for piece in pieces:
                    yield piece

    async def _has_ended(self) -> bool:
        """Whether the job has, after a stream that ended without saying so."""
        job = await self._calls.get(self._path)
        return job["state"] in ENDED

    async def _stored(self) -> AsyncGenerator[Event, None]:
        """What is stored of an ended job and was not given out yet."""
        while True:
            call = Call(
                method="GET",
                path=f"{self._path}/events",
                headers={"Accept": JSON},
                params={"after": self.after},
                repeatable=True,
            )
            page = (await self._calls.answer(call)).json()
            for item in page["items"]:
                event = Event.model_validate(item)
                self.after = event.id
                yield event
            if page["next_cursor"] is None:
                return

    def _silence_s(self) -> float:
        if self._deadline_s is None:
            return SILENCE_S
        return max(0.05, min(SILENCE_S, self._deadline_s - time.monotonic()))

    def _check_time(self) -> None:
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
            raise WaitTimeout
