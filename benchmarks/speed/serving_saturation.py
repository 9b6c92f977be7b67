"""More load than there is room for, and more processes for it."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path

from benchmarks.speed import serving_servers as servers
from benchmarks.speed import traffic
from benchmarks.speed.measure import Json, row, significant
from benchmarks.speed.serving_loads import Size, latencies

IN_TIME_S = 1.0
"""An answer that came so long after it was due is timely."""


def past_saturation(size: Size, request: bytes, capacity: float) -> list[Json]:
    """Open loop at shares of ``capacity``: goodput, latencies from when a request was due, what was refused."""
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        data = Path(directory) / "data"
        servers.stored(data, ["first"])
        with servers.ours(data) as server:
            servers.ask(server.port, request)
            rows = [_at(server, request, size, share, capacity) for share in size.shares]
    steady = [one for one in rows if one["share_of_capacity"] >= 1]
    for one in steady:
        one["met"] = one["ours"]["median"] >= 0.8 * capacity
    return rows


def _at(server: servers.Server, request: bytes, size: Size, share: float, capacity: float) -> Json:
    load = traffic.open_loop(
        server.port,
        request,
        rate=share * capacity,
        seconds=size.open_s,
        seed=round(100 * share),
        server_cpu=server.cpu_s,
    )
    return _open_row(traffic.run(load), share, capacity)


def _open_row(found: traffic.Found, share: float, capacity: float) -> Json:
    in_time = sum(seconds <= IN_TIME_S for seconds in found.latencies_s)
    past = {"asked": "steady goodput (≥ .8 of capacity), the rest 429"} if share >= 1 else {}
    return row(
        f"open loop at {share:g} × capacity: goodput",
        "requests/s",
        [found.rate],
        limit=[min(share, 1.0) * capacity],
        limit_is="what was due, at most the capacity at 64 connections",
        share_of_capacity=share,
        due_per_s=significant(found.due / found.seconds),
        in_time_per_s=significant(in_time / found.seconds),
        refused=significant(found.statuses[429] / found.due),
        unanswered=significant(1 - found.statuses.total() / found.due),
        sent_late_p99_ms=significant(1e3 * traffic.percentile(found.late_s, 0.99)),
        **{
            f"{name}_ms": significant(found.percentile_ms(rank))
            for name, rank in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
        },
        **past,
    )


def api_processes(size: Size, request: bytes, counts: tuple[int, ...] = (1, 2)) -> list[Json]:
    """The same load on one and on several API processes that share the socket, in turns."""
    found: dict[int, list[traffic.Found]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        running = {}
        for count in counts:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nidim-speed-"))) / "data"
            servers.stored(data, ["first"])
            running[count] = stack.enter_context(servers.ours(data, processes=count))
            servers.ask(running[count].port, request)
        for _ in range(size.rounds):
            for count, server in running.items():
                load = traffic.closed(
                    server.port,
                    request,
                    connections=size.connections,
                    seconds=size.seconds,
                    warm_s=size.warm_s,
                    server_cpu=server.cpu_s,
                )
                found[count].append(traffic.run(load))
    one = [each.rate for each in found[counts[0]]]
    return [
        row(
            f"a 3 KB PNG a request, {count} API processes on one socket",
            "requests/s",
            [each.rate for each in found[count]],
            of_one_process=significant(
                statistics.median(each.rate for each in found[count]) / statistics.median(one)
            ),
            **latencies(found[count]),
        )
        for count in counts
    ]
