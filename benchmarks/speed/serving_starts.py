"""From nothing to the first embedding, what a server without an encoder holds, and many encoders in little memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed import serving_servers as servers
from benchmarks.speed import traffic
from benchmarks.speed.measure import Json, in_turns, row, significant
from benchmarks.speed.peers import ROOT
from benchmarks.speed.serving_limits import Bodies
from benchmarks.speed.serving_loads import Size

LIBRARY = (
    "import sys; from pathlib import Path; import numpy as np; from nidim import bundle\n"
    "images = np.zeros((1, 28, 28, 1), np.uint8); print(bundle.load(Path(sys.argv[1])).embed(images).shape)"
)


def starts(size: Size, bodies: Bodies) -> list[Json]:
    """Seconds of a new process until its first embedding; resident memory of one that has no encoder."""
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        data = Path(directory) / "data"
        servers.stored(data, ["first"])

        def served() -> float:
            began = time.perf_counter()
            with servers.ours(data) as server:
                status, _ = servers.ask(server.port, bodies.png)
                seconds = time.perf_counter() - began
            if status != 200:
                raise RuntimeError(f"the first request was answered {status}")
            return seconds

        taken = in_turns(
            {
                "server": served,
                "library": lambda: _new_process(LIBRARY, str(data / "bundle-first")),
                "torch": lambda: _new_process("import torch"),
            },
            rounds=size.starts,
        )
        memory = _memory(data)
    rows = [
        row(
            what,
            "s",
            taken[name],
            limit=taken["torch"],
            limit_is="the interpreter and import torch, nothing else",
            asked="≤ 3 s",
            met=statistics.median(taken[name]) <= 3,
        )
        for name, what in (
            ("server", "a new API process to its first embedding, over HTTP"),
            ("library", "a new process to its first embedding, without a server"),
        )
    ]
    return [*rows, memory]


def _new_process(code: str, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _memory(data: Path) -> Json:
    with servers.ours(data) as server:
        servers.gauge(server.port, "nidim_encoders_loaded")
        time.sleep(3)
        own, whole = server.memory_mb(), server.memory_mb(children=True)
    return row(
        "memory of an API process that has no encoder loaded",
        "MB",
        [own],
        asked="≤ 150 MB",
        met=own <= 150,
        with_decoders_mb=significant(whole),
    )


def many_encoders(size: Size, bodies: Bodies) -> list[Json]:
    """One encoder in use while others are loaded one after the other, into room for three."""
    names = ["first", *(f"other-{number}" for number in range(1, size.encoders))]
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        data = Path(directory) / "data"
        servers.stored(data, names)
        room = int(3.5 * sum(path.stat().st_size for path in (data / "bundle-first").iterdir()))
        with servers.ours(data, serve_cache_bytes=room) as server:
            servers.ask(server.port, bodies.npy)
            quiet, busy, loads, held = [], [], 0, 0.0
            for _ in range(size.rounds):
                quiet.append(_one_connection(server, bodies.npy, size))
                with _loading(server, names[1:], bodies.npy) as counted:
                    busy.append(_one_connection(server, bodies.npy, size))
                loads += len(counted)
                held = max(held, servers.gauge(server.port, "nidim_encoders_loaded_bytes"))
    rows = [
        row(
            f"an encoder in use while others load: {name}",
            "ms",
            [one.percentile_ms(share) for one in busy],
            limit=[one.percentile_ms(share) for one in quiet],
            limit_is="the same while none loads",
            loads=loads,
        )
        for name, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    ]
    rows.append(
        row(
            "memory of loaded encoders, by the sizes of their files",
            "MB",
            [held / 1e6],
            asked=f"≤ serve_cache_bytes, {room / 1e6:.2f} MB",
            met=held <= room,
        )
    )
    return rows


def _one_connection(server: servers.Server, request: bytes, size: Size) -> traffic.Found:
    load = traffic.closed(
        server.port, request, connections=1, seconds=size.seconds, warm_s=0.2, server_cpu=server.cpu_s
    )
    return traffic.run(load)


@contextmanager
def _loading(server: servers.Server, names: list[str], request: bytes) -> Iterator[list[str]]:
    """Ask for each encoder in turn, over and over; there is no room for all, so each has to load."""
    over, asked = threading.Event(), []

    def ask_all() -> None:
        while not over.is_set():
            for name in names:
                other = request.replace(b"/first/", f"/{name}/".encode(), 1)
                status, body = servers.ask(server.port, other)
                if status != 200:
                    raise RuntimeError(f"{name}: {status} {body[:200]!r}")
                asked.append(name)

    thread = threading.Thread(target=ask_all)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()
