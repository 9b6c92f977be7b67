"""Listing, paging, reading and submitting over many rows, against an empty service and one with a page of rows.

Three servers run side by side and take turns request by request. A list of the empty one has no items, so lists are
also compared with the server that holds one page: that ratio is what more rows cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import fill
from benchmarks.load.figures import timing_ms
from benchmarks.load.stack import Api, NewDatabase, api
from benchmarks.load.wire import ACCEPT, Connection

PAGE_ROWS = {"n_jobs": 60, "n_encoders": 120, "n_events": 800}
MANY = 100_000
SETTINGS = {"max_queued_jobs": MANY, "reaper_every_s": 5}
SPEC = {"spec": {"dataset": "digits"}, "encoder": "faces"}
WARM_UP = 5


@dataclass(frozen=True)
class Size:
    """How much there is, how often it is asked for."""

    n_jobs: int = 10_000
    n_encoders: int = 10_000
    n_events: int = 100_000
    rounds: int = 300


SMALL = Size(n_jobs=1000, n_encoders=1000, n_events=10_000, rounds=30)


@dataclass(frozen=True)
class Target:
    """One of the servers, a connection to it, and the paths by the name of the operation."""

    name: str
    connection: Connection
    paths: dict[str, str]


def measure(new_database: NewDatabase, size: Size, seed: int) -> dict[str, Any]:
    """Every operation on every server."""
    rows = {"empty": None, "page": PAGE_ROWS, "full": {name: getattr(size, name) for name in PAGE_ROWS}}
    with _servers(new_database, rows) as servers:
        return asyncio.run(_measure(servers, size, random.Random(seed)))


@contextlib.contextmanager
def _servers(new_database: NewDatabase, rows: dict[str, Any]) -> Iterator[dict[str, Api]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nidim-load-")))
        servers = {}
        for name, counts in rows.items():
            servers[name] = stack.enter_context(api(directory / name, new_database(), **SETTINGS))
            if counts is not None:
                fill.fill(servers[name].store, **counts)
        yield servers


async def _measure(servers: dict[str, Api], size: Size, chance: random.Random) -> dict[str, Any]:
    targets = [await _target(name, server) for name, server in servers.items()]
    found: dict[str, Any] = {}
    for operation in targets[0].paths:
        found[operation] = await _interleaved(targets, operation, size.rounds, chance)
    walks = {target.name: await _walk(target) for target in targets[1:]}
    found["submit"] = await _interleaved(targets, "submit", size.rounds, chance)
    found["submit once"] = await _interleaved(targets, "submit once", size.rounds, chance)
    for target in targets:
        target.connection.close()
    return {"rows": vars(size), "operations": found, "walks": walks}


async def _target(name: str, server: Api) -> Target:
    connection = await Connection.open(server.port)
    if name == "empty":  # so that there is one job to read
        await connection.request("POST", "/v1/jobs", json.dumps(SPEC).encode())
    lists = {
        "jobs": "/v1/jobs?limit=50",
        "jobs queued": "/v1/jobs?limit=50&state=queued",
        "jobs failed": "/v1/jobs?limit=50&state=failed",
        "encoders": "/v1/encoders?limit=50",
        "encoders of a name": "/v1/encoders?limit=10&name=few-0",
    }
    paths = dict(lists)
    for operation, path in lists.items():
        paths[f"{operation}, deep"] = await _deep(connection, path)
    first = (await connection.request("GET", lists["jobs"])).json()["items"][0]["id"]
    paths["job"] = f"/v1/jobs/{first}"
    paths["encoder by name"] = "/v1/encoders/few-0"
    paths["encoder by alias"] = "/v1/encoders/few-0%3Aa-2"
    paths["events"] = _events_path(server, first)
    return Target(name, connection, paths)


def _events_path(server: Api, first: str) -> str:
    """A hundred events near the end of the longest job; of the empty server, those of its only job."""
    from sqlalchemy import select

    from service.store.tables import JobRow

    with server.store.session() as tx:
        query = select(JobRow.id, JobRow.last_event_id).order_by(JobRow.last_event_id.desc()).limit(1)
        job_id, last = tx.execute(query).one()
    return f"/v1/jobs/{job_id if last > 1 else first}/events?after={max(0, last - 150)}&limit=100"


async def _deep(connection: Connection, path: str) -> str:
    """The page four fifths down, or the first one where there is no other."""
    cursors = [""]
    while True:
        page = (await connection.request("GET", path + cursors[-1], headers=ACCEPT)).json()
        if page["next_cursor"] is None:
            return path + cursors[max(0, int(0.8 * len(cursors)) - 1)]
        cursors.append(f"&cursor={page['next_cursor']}")


async def _interleaved(
    targets: list[Target], operation: str, rounds: int, chance: random.Random
) -> dict[str, Any]:
    times: dict[str, list[float]] = {target.name: [] for target in targets}
    for turn in range(WARM_UP + rounds):
        for target in chance.sample(targets, len(targets)):
            await target.connection.awake()
            answer = await _ask(target, operation, turn)
            if answer.status >= 500:
                raise RuntimeError(f"{operation}: {answer.status} {answer.body[:300]!r}")
            if turn >= WARM_UP:
                times[target.name].append(answer.seconds)
    found: dict[str, Any] = {name: timing_ms(values) for name, values in times.items()}
    for base in ("empty", "page"):
        found[f"full/{base}"] = round(found["full"]["median"] / found[base]["median"], 2)
        found[f"full/{base} p99"] = round(found["full"]["p99"] / found[base]["p99"], 2)
    return found


async def _ask(target: Target, operation: str, turn: int) -> Any:
    if operation == "submit":
        return await target.connection.request("POST", "/v1/jobs", json.dumps(SPEC).encode())
    if operation == "submit once":
        key = {"Idempotency-Key": f"load-{turn}"}
        return await target.connection.request("POST", "/v1/jobs", json.dumps(SPEC).encode(), key)
    return await target.connection.request("GET", target.paths[operation], headers=ACCEPT)


async def _walk(target: Target) -> dict[str, Any]:
    """Through everything, a hundred at a time: every item once?"""
    found = {}
    await target.connection.awake()
    for kind in ("jobs", "encoders"):
        ids: list[str] = []
        times, cursor = [], ""
        while cursor is not None:
            suffix = f"&cursor={cursor}" if cursor else ""
            answer = await target.connection.request("GET", f"/v1/{kind}?limit=100{suffix}", headers=ACCEPT)
            page = answer.json()
            ids += [item["id"] for item in page["items"]]
            times.append(answer.seconds)
            cursor = page["next_cursor"]
        found[kind] = {
            "items": len(ids),
            "distinct": len(set(ids)),
            "ms_per_100": round(1e5 * sum(times) / max(1, len(ids)), 2),
            "page": timing_ms(times),
        }
    return found
