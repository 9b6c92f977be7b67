"""The gate before the embeddings, without a server: who takes a place, who is refused, when a place is free again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.responses import Response

from service.gate import Gate, Gated

router = APIRouter()


@router.post("/v1/encoders/{ref}/embed")
def embed() -> None:
    """As the API has one."""


@router.post("/v1/embeddings")
def embeddings() -> None:
    """The other."""


RUNNING: set[asyncio.Task[None]] = set()
"""An event loop holds its tasks weakly: a request that nobody looks at any more would be collected as garbage."""


class Asked:
    """One request: pieces of its body are given with ``arrive``, the application ends when ``end`` is set."""

    def __init__(self, gate: Gated, path: str = "/v1/encoders/x/embed", method: str = "POST") -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "path_params": {},
            "headers": [],
            "asked": self,
        }
        self.end = asyncio.Event()
        self.fails = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._body: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(gate(self.scope, self._body.get, self._send))
        RUNNING.add(self.task)
        self.task.add_done_callback(RUNNING.discard)

    async def arrive(self, *, more: bool = False) -> None:
        self._body.put_nowait({"type": "http.request", "body": b"x", "more_body": more})
        await asyncio.sleep(0.01)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, waits, answers 200 or fails."""
    asked: Asked = scope["asked"]
    while (await receive())["more_body"]:
        continue
    await asked.end.wait()
    if asked.fails:
        raise RuntimeError("broken")
    await Response(b"")(scope, receive, send)


def gate(most: int = 1) -> Gated:
    return Gated(application, gate=Gate(most=most, routes=router.routes))


async def refused(one: Asked) -> bool:
    """Whether it is answered 429 at once."""
    await asyncio.sleep(0.01)
    if not one.task.done():
        return False
    return one.status == 429


def test_beyond_the_bound_requests_are_refused_at_once_and_others_are_not() -> None:
    async def work() -> None:
        one = gate(most=2)
        for _ in range(2):
            await Asked(one).arrive()
        third = Asked(one)
        assert await refused(third)
        assert third.headers[b"retry-after"] == b"1"
        assert third.headers[b"content-type"] == b"application/problem+json"
        assert third.scope["route"] is router.routes[0], "it is counted under its route"
        assert await refused(Asked(one, "/v1/embeddings"))
        for path, method in (("/v1/encoders/x/embed", "GET"), ("/v1/jobs", "POST"), ("/v1/embed/x", "POST")):
            assert not await refused(Asked(one, path, method))

    asyncio.run(work())


def test_a_body_that_has_not_arrived_takes_no_place() -> None:
    async def work() -> None:
        one = gate()
        slow = Asked(one)
        await slow.arrive(more=True)
        other = Asked(one)
        await other.arrive()
        assert not other.task.done()
        assert await refused(Asked(one))
        await slow.arrive()  # it was let in before; now it is at work, too
        other.end.set()
        await other.task
        assert await refused(Asked(one))
        slow.end.set()
        await slow.task
        assert not await refused(Asked(one))

    asyncio.run(work())


def test_a_place_is_free_again_whatever_becomes_of_the_request() -> None:
    async def work() -> None:
        one = gate()
        failing = Asked(one)
        await failing.arrive()
        failing.fails = True
        failing.end.set()
        with pytest.raises(RuntimeError, match="broken"):
            await failing.task
        given_up = Asked(one)
        await given_up.arrive()
        given_up.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up.task
        last = Asked(one)
        await last.arrive()
        assert not last.task.done()

    asyncio.run(work())
