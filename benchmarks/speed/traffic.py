"""Load on one HTTP server of this machine: closed loop and open loop, by a client that hardly costs anything.

Closed: every connection sends its next request when it has the answer to the last one. Open: requests are due at
moments of a Poisson process, whatever the server does; latency runs from the moment at which a request was due, so a
server that stalls is charged for all that had to wait (no coordinated omission). A request that finds no free
connection opens one, or beyond ``MOST`` waits for one, and its latency runs on meanwhile. The timer ticks every
millisecond, which the latencies of the open loop include.

The client shares the machine with the server: how much processor time each took stands beside every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

MOST = 2000
DRAIN_S = 3.0
GOOD = (200, 202)
LOST = 0
"""Instead of a status: the server hung up."""
Clock = Callable[[], float]
"""Processor seconds of the server so far."""


@dataclass
class Found:
    """Answers of one run: ``latencies_s`` of those with status 200; what was due and unanswered is in neither."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    due: int = 0
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    body: bytes = b""

    @property
    def rate(self) -> float:
        """Answers 200 a second."""
        return self.statuses[200] / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Of the latencies; 0 where there are none."""
        return percentile(self.latencies_s, share) * 1e3

    def server_ms(self) -> float:
        """Processor milliseconds of the server an answer."""
        return 1e3 * self.server_cpu_s / max(1, self.statuses.total())

    def client_ms(self) -> float:
        """Processor milliseconds of this client an answer."""
        return 1e3 * self.client_cpu_s / max(1, self.statuses.total())


def percentile(values: Sequence[float], share: float) -> float:
    """By rank; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def post(path: str, body: bytes, kind: str, **headers: str) -> bytes:
    """A whole request as bytes."""
    fields = {"Host": "localhost", "Content-Type": kind, "Content-Length": str(len(body)), **headers}
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", ""]).encode() + body


def _nothing(status: int) -> None:
    del status


class Connection(asyncio.Protocol):
    """Kept alive; one request at a time. ``answered`` is told the status of each."""

    def __init__(self) -> None:
        self.answered: Callable[[int], None] = _nothing
        self.body = b""
        self._transport: asyncio.Transport | None = None
        self._pieces, self._needed, self._status = b"", -1, LOST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def ask(self, request: bytes) -> None:
        """Send."""
        assert self._transport is not None
        self._pieces, self._needed = b"", -1
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self.answered = _nothing
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._pieces += data
        if self._needed < 0 and not self._read_head():
            return
        if len(self._pieces) >= self._needed:
            self.body = self._pieces
            self._needed = -1
            self.answered(self._status)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.answered(LOST)

    def _read_head(self) -> bool:
        end = self._pieces.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._pieces = self._pieces[:end].lower(), self._pieces[end + 4 :]
        self._status = int(head[9:12])
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if not found:
            raise ValueError("an answer without Content-Length")
        self._needed = int(rest.partition(b"\r\n")[0])
        return True


async def _connected(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    for _ in range(100):  # a full backlog refuses for a moment
        with contextlib.suppress(OSError):
            return (await loop.create_connection(Connection, "127.0.0.1", port))[1]
        await asyncio.sleep(0.02)
    raise ConnectionError(f"nobody listens on port {port}")


def run(work: Awaitable[Found]) -> Found:
    """``work`` on an event loop of its own, without pauses of the garbage collector."""

    async def whole() -> Found:
        return await work

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(whole())
    finally:
        gc.enable()


async def closed(
    port: int, request: bytes, *, connections: int, seconds: float, warm_s: float, server_cpu: Clock
) -> Found:
    """``connections`` that ask without pause for ``seconds``, after ``warm_s`` that do not count."""
    found = Found()
    open_ = [await _connected(port) for _ in range(connections)]
    counting = False

    def begin(connection: Connection) -> None:
        began = time.perf_counter()

        def answered(status: int) -> None:
            if counting:
                found.statuses[status] += 1
                found.latencies_s.append(time.perf_counter() - began)
                found.body = connection.body
            if status != LOST:
                begin(connection)

        connection.answered = answered
        connection.ask(request)

    for connection in open_:
        begin(connection)
    await asyncio.sleep(warm_s)
    began, cpu, ours = time.perf_counter(), server_cpu(), time.process_time()
    counting = True
    await asyncio.sleep(seconds)
    counting = False
    found.seconds = time.perf_counter() - began
    found.server_cpu_s, found.client_cpu_s = server_cpu() - cpu, time.process_time() - ours
    for connection in open_:
        connection.close()
    return found


class _Open:
    """The connections of an open loop and who waits for one."""

    def __init__(self, port: int, request: bytes, found: Found) -> None:
        self._port, self._request, self._found = port, request, found
        self._free: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._all: list[Connection] = []
        self.counting = True

    async def prepare(self, count: int) -> None:
        self._all = [await _connected(self._port) for _ in range(count)]
        self._free = list(self._all)

    def due(self, at: float) -> None:
        """A request was due ``at``; send it."""
        self._found.due += 1
        if self._free:
            self._send(self._free.pop(), at)
            return
        self._waiting.append(at)
        if len(self._all) + len(self._opening) < MOST:
            task = asyncio.create_task(self._more())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _more(self) -> None:
        connection = await _connected(self._port)
        self._all.append(connection)
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _send(self, connection: Connection, at: float) -> None:
        self._found.late_s.append(time.perf_counter() - at)

        def answered(status: int) -> None:
            connection.answered = functools.partial(self._gone, connection)
            if self.counting:
                self._found.statuses[status] += 1
            if status in GOOD:
                self._found.latencies_s.append(time.perf_counter() - at)
            if status != LOST:
                self._next(connection)

        connection.answered = answered
        connection.ask(self._request)

    def _gone(self, connection: Connection, status: int) -> None:
        """It was closed while it was idle."""
        del status
        if connection in self._free:
            self._free.remove(connection)

    async def close(self) -> None:
        """Wait for the answers under way, for a moment; then hang up."""
        deadline = time.perf_counter() + DRAIN_S
        while time.perf_counter() < deadline and len(self._free) < len(self._all):
            await asyncio.sleep(0.05)
        for task in self._opening:
            task.cancel()
        for connection in self._all:
            connection.close()


async def open_loop(
    port: int, request: bytes, *, rate: float, seconds: float, seed: int, server_cpu: Clock
) -> Found:
    """Poisson arrivals at ``rate`` a second for ``seconds``; ``statuses`` counts what was answered within them."""
    found, draws = Found(), random.Random(seed)
    pool = _Open(port, request, found)
    await pool.prepare(64)
    began, cpu, ours = time.perf_counter(), server_cpu(), time.process_time()
    at = began + draws.expovariate(rate)
    while at < began + seconds:
        while (left := at - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        pool.due(at)
        at += draws.expovariate(rate)
        if at < time.perf_counter():
            await asyncio.sleep(0)  # late already: answers are read before the next is sent
    await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
    pool.counting = False
    found.seconds = time.perf_counter() - began
    found.server_cpu_s, found.client_cpu_s = server_cpu() - cpu, time.process_time() - ours
    await pool.close()
    return found
