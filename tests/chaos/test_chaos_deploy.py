"""A deploy under embedding load: API processes are told to stop one after the other, and no request fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.tiny_encoder import register, write_bundle
from service.settings import Settings
from service.store import open_store
from tests.chaos.load import npy
from tests.chaos.processes import wait_for

pytestmark = pytest.mark.slow

CLIENTS = 6
HEADERS = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


class Fleet:
    """API processes on one listening socket, as ``nidim up`` and socket activation start them."""

    def __init__(self, directory: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (directory.parent / "api.log").open("ab")
        self._env = {
            **os.environ,
            "NIDIM_DATA_DIR": str(directory),
            "NIDIM_PORT": str(port),
            "NIDIM_DECODE_PROCESSES": "1",
            "NIDIM_SERVE_THREADS": "1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "service.serve", "--fd", str(self.listener.fileno())]
        process = subprocess.Popen(
            command, env=self._env, pass_fds=(self.listener.fileno(),), stdout=self._log, stderr=self._log
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.listener.close()
        self._log.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    register(store, "tiny", tmp_path / "bundle", write_bundle(tmp_path / "bundle"))
    store.close()
    started = Fleet(tmp_path / "data")
    yield started
    started.close()


class Clients:
    """Each sends one request after the other over a connection that it keeps; what went wrong is kept."""

    def __init__(self, url: str) -> None:
        self.url, self.answered, self.failures = url, 0, list[str]()
        self._over = threading.Event()
        self._body = npy(np.zeros((4, 8, 8), dtype=np.uint8))
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as http:
            while not self._over.is_set():
                try:
                    answer = http.post("/v1/encoders/tiny/embed", content=self._body, headers=HEADERS)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answered += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def answers(fleet: Fleet) -> Any:
    try:
        return httpx.get(f"{fleet.url}/readyz", trust_env=False, timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("successor", ["another process", "the next one"])
def test_a_deploy_under_load_fails_no_request(fleet: Fleet, successor: str) -> None:
    """``successor``: whether another process serves meanwhile, or clients wait in the socket's queue."""
    fleet.start()
    wait_for(lambda: answers(fleet), "the API answers")
    if successor == "another process":
        fleet.start()
    clients = Clients(fleet.url)
    try:
        for _ in range(2):
            seen = clients.answered
            wait_for(lambda seen=seen: clients.answered > seen + 50, "load")
            leaving = next(process for process in fleet.processes if process.poll() is None)
            leaving.send_signal(signal.SIGTERM)
            leaving.wait(30)
            fleet.start()
        seen = clients.answered
        wait_for(lambda: clients.answered > seen + 20, "the successor answers")
        time.sleep(0.5)
    finally:
        clients.close()
    assert not clients.failures, (len(clients.failures), clients.failures[:3])
