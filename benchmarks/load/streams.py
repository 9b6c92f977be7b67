"""Many readers of event streams on one API process: every event once and in order to each, how late, at what cost.

A worker of this benchmark's own writes events to a few jobs, each with the time in it. Most readers read at once;
some stop reading until the end, some hang up and come back with Last-Event-ID, some vanish. The clock is that of the
machine, so the latency runs from before the write to after the parse, the client's own share included.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load.figures import timing_ms
from benchmarks.load.listing import SPEC
from benchmarks.load.stack import Api, NewDatabase, api, transactions
from benchmarks.load.wire import ACCEPT, Connection, follow
from service.store import Store, jobs

SENT = re.compile(rb'"sent":([0-9.]+)')
OPENING = 50
"""Connections that open at the same time."""


@dataclass(frozen=True)
class Size:
    """How many readers and jobs; events of a job, how many a write, seconds between writes."""

    readers: int = 1000
    slow: int = 20
    returning: int = 50
    vanishing: int = 50
    jobs: int = 10
    writes: int = 60
    burst: int = 5
    every_s: float = 0.5
    idle_s: float = 10.0
    text: int = 200


SMALL = Size(readers=100, slow=5, returning=10, vanishing=10, jobs=3, writes=10, every_s=0.2, idle_s=1.0)


@dataclass
class Heard:
    """What one reader got: ids in the order of coming, and how late each was."""

    ids: list[int] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)

    def take(self, number: int, lines: bytes) -> None:
        """Note one event."""
        self.ids.append(number)
        if match := SENT.search(lines):
            self.late_s.append(time.time() - float(match[1]))


def measure(new_database: NewDatabase, size: Size, seed: int) -> dict[str, Any]:
    """One process, all its readers."""
    with (
        tempfile.TemporaryDirectory(prefix="nidim-load-") as directory,
        api(Path(directory), new_database(), reaper_every_s=60) as server,
    ):
        return asyncio.run(run(server, size, random.Random(seed)))


async def run(server: Api, size: Size, chance: random.Random) -> dict[str, Any]:
    """The whole scene on a server that is there already."""
    leases = await asyncio.to_thread(leases_of, server.store, size.jobs)
    before_mb = server.memory_mb()
    opened = await open_readers(server, size, [lease.job_id for lease in leases])
    found: dict[str, Any] = {"size": vars(size), "open_s": opened.seconds, "memory_mb_before": before_mb}
    found["memory_mb_open"] = server.memory_mb()
    found["idle"] = await _window(server, asyncio.sleep(size.idle_s))
    writer = asyncio.to_thread(write, server.store, leases, size)
    found["busy"] = await _window(server, _with_others(server, size, opened, writer, chance))
    ends = await asyncio.gather(*opened.tasks)
    found["memory_mb_peak"] = server.memory_mb(peak=True)
    found["kb_per_reader"] = round(1024 * (found["memory_mb_open"] - before_mb) / len(ends), 1)
    found["events_per_reader"] = size.writes * size.burst + 3
    found["lost_or_doubled_readers"] = sum(
        heard.ids != list(range(1, found["events_per_reader"] + 1)) for heard in ends
    )
    found["late_ms"] = timing_ms([late for heard in ends[: size.readers] for late in heard.late_s])
    return found


@dataclass
class _Opened:
    tasks: list[asyncio.Task[Heard]]
    go: asyncio.Event
    seconds: float


def leases_of(store: Store, count: int) -> list[jobs.Lease]:
    found = []
    for number in range(count):
        with store.begin() as tx:
            job = jobs.create(
                tx,
                kind="train",
                spec=SPEC["spec"],
                resolved={},
                warnings=[],
                encoder=f"stream-{number}",
                priority="normal",
            )
            lease = jobs.take_lease(tx, job.id, owner="load", lease_s=3600)
        assert lease is not None
        found.append(lease)
    return found


async def open_readers(server: Api, size: Size, job_ids: list[str]) -> _Opened:
    """The readers first, then the slow ones and those that come back; each gives what it heard at the end."""
    began, gate, go = time.perf_counter(), asyncio.Semaphore(OPENING), asyncio.Event()
    turns = itertools.cycle(job_ids)
    listening: list[asyncio.Future[None]] = []

    def start(reader: Callable[..., Any]) -> asyncio.Task[Heard]:
        ready = asyncio.get_running_loop().create_future()
        listening.append(ready)
        return asyncio.create_task(reader(server, next(turns), gate, ready, go))

    kinds = [_reader] * size.readers + [_slow] * size.slow + [_returning] * size.returning
    tasks = [start(kind) for kind in kinds]
    await asyncio.gather(*listening)
    return _Opened(tasks, go, round(time.perf_counter() - began, 2))


async def _reader(server: Api, job_id: str, gate: Any, ready: Any, _: asyncio.Event) -> Heard:
    heard = Heard()
    async with gate:
        connection, events = await follow(server.port, job_id)
        number, lines = await anext(events)
        heard.take(number, lines)
    ready.set_result(None)
    async for number, lines in events:
        heard.take(number, lines)
    connection.close()
    return heard


async def _slow(server: Api, job_id: str, gate: Any, ready: Any, go: asyncio.Event) -> Heard:
    """Reads one event, then nothing until the others have had theirs."""
    heard = Heard()
    async with gate:
        connection, events = await follow(server.port, job_id)
        heard.take(*await anext(events))
    connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
    ready.set_result(None)
    await go.wait()
    connection.reader._transport.resume_reading()  # type: ignore[attr-defined]
    async for number, lines in events:
        heard.take(number, lines)
    connection.close()
    return heard


async def _returning(server: Api, job_id: str, gate: Any, ready: Any, _: asyncio.Event) -> Heard:
    """Hangs up after every twenty events and comes back with the last id."""
    heard = Heard()
    while True:
        async with gate:
            connection, events = await follow(server.port, job_id, heard.ids[-1] if heard.ids else 0)
        if not ready.done():
            ready.set_result(None)
        before = len(heard.ids)
        async for number, lines in events:
            heard.take(number, lines)
            if len(heard.ids) - before == 20:
                break
        connection.abort()
        if len(heard.ids) - before < 20:
            return heard


async def _with_others(server: Api, size: Size, opened: _Opened, writer: Any, chance: random.Random) -> Any:
    """The writer, those that vanish, and one that asks for other things meanwhile."""
    written = asyncio.ensure_future(writer)
    asked = asyncio.ensure_future(_ask(server, written))
    connection = await Connection.open(server.port)
    listed = (await connection.request("GET", "/v1/jobs", headers=ACCEPT)).json()["items"]
    connection.close()
    for _ in range(size.vanishing):
        gone, _events = await follow(server.port, chance.choice(listed)["id"])
        await asyncio.sleep(0.02)
        gone.abort()
    await written
    opened.go.set()
    await asyncio.gather(*opened.tasks)
    return {"other_requests_ms": timing_ms(await asked)}


async def _ask(server: Api, until: asyncio.Future[Any]) -> list[float]:
    connection = await Connection.open(server.port)
    times = []
    while not until.done():
        times.append((await connection.request("GET", "/v1/jobs?limit=10", headers=ACCEPT)).seconds)
        await asyncio.sleep(0.05)
    connection.close()
    return times


async def _window(server: Api, work: Any) -> dict[str, Any]:
    """What the process costs while ``work`` goes on."""
    cpu, count, began = server.cpu_s(), transactions(server.store), time.perf_counter()
    found = await work
    seconds = time.perf_counter() - began
    await asyncio.sleep(1.5)  # PostgreSQL counts with a delay
    now = transactions(server.store)
    return {
        "seconds": round(seconds, 1),
        "cpu_share": round((server.cpu_s() - cpu) / (seconds + 1.5), 3),
        "transactions_per_s": None
        if count is None or now is None
        else round((now - count) / (seconds + 1.5), 1),
        **(found or {}),
    }


def write(store: Store, leases: list[jobs.Lease], size: Size) -> None:
    """As a worker: bursts of events for each job in turn, then the end."""
    padding = "x" * size.text
    for _ in range(size.writes):
        with _paced(size.every_s):
            for lease in leases:
                events = [("log", {"sent": time.time(), "text": padding}) for _ in range(size.burst)]
                with store.begin() as tx:
                    jobs.add_events(tx, lease, events)
    for lease in leases:
        with store.begin() as tx:
            jobs.fail(tx, lease, "load", "done")


@contextlib.contextmanager
def _paced(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    threading.Event().wait(max(0.0, seconds - (time.monotonic() - began)))
