"""``python -m tests.chaos.deploy --sigterms 40 --out benchmarks/results/chaos``: deploys under embedding load.

API processes on one listening socket are told to stop, one after the other, while clients embed over connections that
they keep. Every request that fails is counted, and how many were under way at each SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.tiny_encoder import register, write_bundle
from service.settings import Settings
from service.store import open_store
from tests.chaos.load import npy
from tests.chaos.processes import wait_for
from tests.forking import Forked

SUCCESSORS = ("another process", "the next one")
"""Whether another process serves meanwhile, or clients wait in the socket's queue."""
CLIENTS = 6
IMAGES = 16
HEADERS = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


Start = Callable[[socket.socket, Mapping[str, str], Path], "subprocess.Popen[bytes] | Forked"]
"""An API process on a socket that is listening, with an environment and a log."""


def start_server(listener: socket.socket, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """As ``nidim up`` and socket activation do."""
    command = [sys.executable, "-m", "service.serve", "--fd", str(listener.fileno())]
    with log.open("ab") as output:
        return subprocess.Popen(command, env=env, pass_fds=(listener.fileno(),), stdout=output, stderr=output)


class Fleet:
    """API processes on one listening socket."""

    def __init__(self, directory: Path, start: Start) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory.parent / "api.log"
        self._start = start
        self._env = {
            **os.environ,
            "NIDIM_DATA_DIR": str(directory),
            "NIDIM_PORT": str(port),
            "NIDIM_DECODE_PROCESSES": "1",
            "NIDIM_SERVE_THREADS": "1",
        }
        self.processes: list[subprocess.Popen[bytes] | Forked] = []

    def start(self) -> None:
        self.processes.append(self._start(self.listener, self._env, self._log))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.listener.close()


@contextmanager
def fleet(directory: Path, start: Start) -> Iterator[Fleet]:
    """With an encoder, without processes yet."""
    store = open_store(Settings(data_dir=directory / "data"))
    register(store, "tiny", directory / "bundle", write_bundle(directory / "bundle"))
    store.close()
    started = Fleet(directory / "data", start)
    try:
        yield started
    finally:
        started.close()


class Clients:
    """Each sends one request after the other over a connection that it keeps; what went wrong is kept."""

    def __init__(self, url: str) -> None:
        self.url, self.answered, self.failures = url, 0, list[str]()
        self._sending = [False] * CLIENTS
        self._over = threading.Event()
        self._body = npy(np.zeros((IMAGES, 8, 8), dtype=np.uint8))
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not answered yet."""
        return sum(self._sending)

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as http:
            while not self._over.is_set():
                self._sending[number] = True
                self._ask(http)
                self._sending[number] = False

    def _ask(self, http: httpx.Client) -> None:
        try:
            answer = http.post("/v1/encoders/tiny/embed", content=self._body, headers=HEADERS)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        if answer.status_code == 200:
            self.answered += 1
        else:
            self.failures.append(f"{answer.status_code} {answer.text[:200]}")

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def answers(fleet: Fleet) -> bool:
    """Whether it can embed."""
    try:
        return httpx.get(f"{fleet.url}/readyz", trust_env=False, timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


def measure(fleet: Fleet, successor: str, *, sigterms: int) -> dict[str, Any]:
    """So many deploys one after the other, none of them in a pause of the load."""
    fleet.start()
    wait_for(lambda: answers(fleet), "the API answers")
    if successor == SUCCESSORS[0]:
        fleet.start()
    clients, under_way = Clients(fleet.url), list[int]()
    try:
        for _ in range(sigterms):
            seen = clients.answered
            wait_for(lambda seen=seen: clients.answered > seen + 50, "load", seconds=240)
            leaving = next(process for process in fleet.processes if process.poll() is None)
            under_way.append(clients.in_flight)
            leaving.send_signal(signal.SIGTERM)
            leaving.wait(60)
            fleet.start()
        seen = clients.answered
        wait_for(lambda: clients.answered > seen + 50, "the successor answers")
    finally:
        clients.close()
    return {
        "successor": successor,
        "sigterms": sigterms,
        "clients": CLIENTS,
        "images_each": IMAGES,
        "in_flight": under_way,
        "in_flight_mean": round(statistics.mean(under_way), 1),
        "answered": clients.answered,
        "failed": len(clients.failures),
        "failures": clients.failures[:20],
    }


def main(argv: list[str] | None = None) -> int:
    """Both kinds; 1 if a request failed."""
    from tests.chaos import pool, report

    parser = argparse.ArgumentParser(prog="python -m tests.chaos.deploy", description=__doc__)
    parser.add_argument("--sigterms", type=int, default=40)
    parser.add_argument("--out", type=Path, help="directory for deploys.json and the page")
    given = parser.parse_args(argv)
    found = []
    for successor in SUCCESSORS:
        with (
            tempfile.TemporaryDirectory(prefix="nidim-deploy-") as directory,
            fleet(Path(directory), start_server) as started,
        ):
            found.append(measure(started, successor, sigterms=given.sigterms))
        sys.stdout.write(f"{found[-1]}\n")
        sys.stdout.flush()
        if given.out:
            command = f"python -m tests.chaos.deploy --sigterms {given.sigterms}"
            body = {"command": command, **report.surroundings(), "deploys": found}
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / "deploys.json").write_text(json.dumps(body, indent=1) + "\n")
            pool.write(given.out)
    return 1 if any(row["failed"] for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
