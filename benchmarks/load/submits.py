"""Submitting many jobs while others list and a worker in another process writes: is anybody refused or kept waiting?"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.load.figures import timing_ms
from benchmarks.load.listing import MANY, SPEC
from benchmarks.load.stack import Api, NewDatabase, api
from benchmarks.load.wire import ACCEPT, Connection
from service.store import jobs, open_store

BEAT_S = 0.1
PATHS = ("/v1/jobs?limit=50", "/v1/jobs?state=queued&limit=50", "/v1/encoders?limit=50")


@dataclass(frozen=True)
class Size:
    """How many jobs, over how many connections, beside how many readers."""

    submits: int = 10_000
    writers: int = 16
    readers: int = 8


SMALL = Size(submits=200, writers=8, readers=4)


def measure(new_database: NewDatabase, size: Size, seed: int) -> dict[str, Any]:  # noqa: ARG001 - nothing is drawn
    """Readers alone first, then everybody."""
    url = new_database()
    with (
        tempfile.TemporaryDirectory(prefix="nidim-load-") as directory,
        api(Path(directory), url, max_queued_jobs=MANY) as server,
    ):
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(directory, url, theirs), daemon=True)
        worker.start()
        ours.recv()
        found = asyncio.run(_measure(server, size))
        ours.send("stop")
        found["worker"] = ours.recv()
        worker.join()
        return found


async def _measure(server: Api, size: Size) -> dict[str, Any]:
    alone = await _read(server, size.readers, asyncio.ensure_future(asyncio.sleep(5)))
    cpu, began = server.cpu_s(), time.perf_counter()
    numbers = iter(range(size.submits))
    answers: list[tuple[int, float, str]] = []
    writers = asyncio.gather(*(_submit(server, numbers, answers) for _ in range(size.writers)))
    together = await _read(server, size.readers, asyncio.ensure_future(writers))
    seconds = time.perf_counter() - began
    with server.store.session() as tx:
        waiting = jobs.count_waiting(tx)
    return {
        "size": vars(size),
        "seconds": round(seconds, 1),
        "submits_per_s": round(size.submits / seconds, 1),
        "statuses": dict(Counter(str(status) for status, _, _ in answers)),
        "distinct_jobs": len({job_id for _, _, job_id in answers}),
        "queued_in_database": waiting,
        "submit_ms": timing_ms([taken for _, taken, _ in answers]),
        "lists_alone": alone,
        "lists_meanwhile": together,
        "cpu_s": round(server.cpu_s() - cpu, 1),
        "memory_mb_peak": round(server.memory_mb(peak=True), 1),
    }


async def _submit(server: Api, numbers: Any, answers: list[tuple[int, float, str]]) -> None:
    connection = await Connection.open(server.port)
    for number in numbers:
        body = json.dumps({**SPEC, "encoder": f"e-{number % 100}"}).encode()
        answer = await connection.request("POST", "/v1/jobs", body)
        answers.append((answer.status, answer.seconds, answer.json().get("id", "")))
    connection.close()


async def _read(server: Api, count: int, until: asyncio.Future[Any]) -> dict[str, Any]:
    """Every reader lists, pauses as long as that took, and lists again."""
    times: list[float] = []
    statuses: Counter[str] = Counter()

    async def read(path: str) -> None:
        connection = await Connection.open(server.port)
        while not until.done():
            answer = await connection.request("GET", path, headers=ACCEPT)
            times.append(answer.seconds)
            statuses[str(answer.status)] += 1
            await asyncio.sleep(answer.seconds)
        connection.close()

    await asyncio.gather(*(read(PATHS[number % len(PATHS)]) for number in range(count)))
    await until
    return {"ms": timing_ms(times), "statuses": dict(statuses)}


def _work(directory: str, url: str, pipe: Pipe) -> None:
    """Another process, as a worker: ten heartbeats with an event each a second; how long each took, what failed."""
    store = open_store(SimpleNamespace(data_dir=Path(directory), database_url=url, blob_url=""))
    values = {"kind": "train", "resolved": {}, "warnings": [], "encoder": "worker", "priority": "normal"}
    with store.begin() as tx:
        job = jobs.create(tx, spec=SPEC["spec"], **values)
        lease = jobs.take_lease(tx, job.id, owner="load", lease_s=3600)
    assert lease is not None
    pipe.send("ready")
    times, failures = [], Counter[str]()
    while not pipe.poll(BEAT_S):
        began = time.perf_counter()
        try:
            with store.begin() as tx:
                jobs.heartbeat(tx, lease, 3600)
            with store.begin() as tx:
                jobs.add_events(tx, lease, [("progress", {"step": len(times)})])
        except Exception as error:
            failures[type(error).__name__] += 1
        times.append(time.perf_counter() - began)
    store.close()
    pipe.send({"beat_ms": timing_ms(times), "failures": dict(failures)})
