"""Refusals by the head of a request, over real connections to uvicorn: order, bodies, connections, what is counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request

from service.farewell import CLOSE
from service.gate import Early, Gate, Gated
from service.middleware import SECURITY_HEADERS
from service.protocol import bounded
from service.tracing import Tracer
from tests.waiting import wait_for

PATH, PATIENCE_S = "/v1/encoders/x/embed", 0.5
ROUTE = "/v1/encoders/{ref}/embed"
router = APIRouter()


@router.post(ROUTE)
async def embed(request: Request, ref: str) -> dict[str, Any]:
    """What came."""
    return {"ref": ref, "bytes": len(await request.body())}


@dataclass
class Counted:
    """An observer."""

    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((method, route, status))


class Running:
    """uvicorn with the protocol, on a port of its own; the gate is full while ``gate.at_work`` is 1."""

    def __init__(self) -> None:
        self.gate, self.counted, self.tracer = Gate(most=1, routes=router.routes), Counted(), Tracer()
        early = Early(self.gate, observer=self.counted, tracer=self.tracer)
        app = FastAPI()
        app.include_router(router)
        app.get("/other")(embed_nothing)
        app.add_middleware(Gated, gate=self.gate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        config = uvicorn.Config(app, http=bounded(PATIENCE_S, early), ws="none", log_config=None)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listener]})

    def start(self) -> None:
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        one = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            yield one
        finally:
            one.close()

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


async def embed_nothing() -> dict[str, str]:
    """A route that the gate has nothing to do with."""
    return {"ok": "yes"}


@pytest.fixture
def running() -> Iterator[Running]:
    one = Running()
    one.start()
    yield one
    one.stop()


def ask(
    one: http.client.HTTPConnection, path: str = PATH, body: bytes = b"abc", **headers: str
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    one.request("POST", path, body=body, headers={name.replace("_", "-"): headers[name] for name in headers})
    answer = one.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers


def head(length: int, *more: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


def statuses(connection: socket.socket, count: int) -> list[int]:
    """Of the next answers."""
    said = b""
    while said.count(b"HTTP/1.1 ") < count:
        piece = connection.recv(1 << 16)
        assert piece, said
        said += piece
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


def test_a_full_gate_refuses_by_the_head_and_the_connection_goes_on(running: Running) -> None:
    with running.connection() as one:
        assert ask(one)[:2] == (200, {"ref": "x", "bytes": 3})
        wait_for(lambda: running.gate.at_work == 0)  # it leaves the gate after its answer
        running.gate.at_work = 1
        for number in range(3):
            status, said, headers = ask(one, X_Request_Id=f"mine-{number}", body=b"x" * 100_000)
            assert (status, said["code"], said["request_id"]) == (429, "overloaded", f"mine-{number}")
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-request-id"] == f"mine-{number}"
            assert headers["retry-after"] == "1"
            assert headers["date"]
            assert headers["connection"] is None
            assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        one.request("GET", "/other")
        assert one.getresponse().read() == b'{"ok":"yes"}', "others go on"
        running.gate.at_work = 0
        assert ask(one)[0] == 200
    assert running.counted.seen == [("POST", ROUTE, 429)] * 3


def test_what_other_layers_have_a_word_in_is_refused_by_the_application(running: Running) -> None:
    running.gate.at_work = 1
    with running.connection() as one:
        assert ask(one, Origin="http://elsewhere")[0] == 429
    assert running.counted.seen == []


def test_the_body_of_a_refused_request_may_come_in_pieces_and_late(running: Running) -> None:
    running.gate.at_work = 1
    with running.raw() as connection:
        connection.sendall(head(6) + b"ab")
        assert statuses(connection, 1) == [429]
        connection.sendall(b"cd")
        time.sleep(0.05)
        running.gate.at_work = 0
        connection.sendall(b"ef" + head(1) + b"x")
        assert statuses(connection, 1) == [200]


def test_a_body_of_a_refused_request_that_never_ends_ends_the_connection(running: Running) -> None:
    running.gate.at_work = 1
    with running.raw() as connection:
        connection.sendall(head(1000) + b"ab")
        assert statuses(connection, 1) == [429]
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 10:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 5 * PATIENCE_S


def test_refusals_keep_the_order_of_the_requests(running: Running) -> None:
    running.gate.at_work = 1
    other = b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running.raw() as connection:
        connection.sendall(other + head(2) + b"ab" + other + head(0))
        assert statuses(connection, 4) == [200, 429, 200, 429]
        connection.sendall(head(2) + b"ab" + head(2) + b"cd" + other)
        assert statuses(connection, 3) == [429, 429, 200]


@pytest.mark.parametrize("who", ["client", "server"])
def test_the_last_answer_of_a_connection_says_so(running: Running, who: str) -> None:
    running.gate.at_work = 1
    if who == "server":
        running.server.config.encoded_headers.append(CLOSE)
        time.sleep(1.5)  # uvicorn makes its headers anew every second
    with running.raw() as connection:
        connection.sendall(head(4, *(["Connection: close"] if who == "client" else [])) + b"abcd")
        said = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert said.startswith(b"HTTP/1.1 429 ")
    assert said.lower().count(b"connection: close") == 1


def test_paths_that_nobody_can_read_are_no_http(running: Running) -> None:
    running.gate.at_work = 1
    with running.raw() as connection:
        connection.sendall(b"POST /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert statuses(connection, 1) == [400]
