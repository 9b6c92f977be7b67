"""Servers to measure: ours, a bare FastAPI endpoint and the peers, each a real process on a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.stack import tree
from benchmarks.speed import peers
from benchmarks.tiny_encoder import register, write_bundle
from nidim.spec import DatasetFacts
from service.settings import Settings
from service.store import open_store

FACTS = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
DIM = 16
TICKS = os.sysconf("SC_CLK_TCK")
START_S = 180.0


@dataclass(frozen=True)
class Server:
    """Processes that answer on ``port``."""

    port: int
    processes: tuple[subprocess.Popen[bytes], ...]

    def cpu_s(self) -> float:
        """Processor seconds so far of all processes and their children."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def memory_mb(self, *, children: bool = False) -> float:
        """Resident memory of the first process, or of all."""
        pids = self._pids() if children else [self.processes[0].pid]
        return sum(_resident_mb(pid) for pid in pids)

    def _pids(self) -> list[int]:
        return [pid for process in self.processes for pid in tree(process.pid)]

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """At work within, stopped outside: one that polls while it is idle must not slow its neighbours."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            os.killpg(process.pid, number)


def write_encoder(directory: Path, *, dim: int = DIM, seed: int = 0) -> dict[str, Any]:
    """The MNIST conv net without training, stored as the worker stores one."""
    directory.mkdir(parents=True)
    encoder = {"kind": "conv", "dim": dim}
    return write_bundle(directory, facts=FACTS, onnx=True, dataset="mnist", encoder=encoder, seed=seed)


def stored(data: Path, names: Sequence[str], *, dim: int = DIM) -> None:
    """A data directory with an encoder under each name."""
    store = open_store(Settings(data_dir=data))
    try:
        for number, name in enumerate(names):
            bundle = data / f"bundle-{name}"
            register(store, name, bundle, write_encoder(bundle, dim=dim, seed=number))
    finally:
        store.close()


@contextlib.contextmanager
def ours(data: Path, *, processes: int = 1, **settings: Any) -> Iterator[Server]:
    """``processes`` API processes on one socket, with the defaults of the service but for ``settings``."""
    given = {"data_dir": data, **settings}
    env = {f"NIDIM_{name.upper()}": str(value) for name, value in given.items()}
    with _listener() as listener:
        command = [sys.executable, "-m", "service.serve", "--fd", str(listener.fileno())]
        with _running([command] * processes, listener, env, data / "server.log") as server:
            yield server


@contextlib.contextmanager
def bare(directory: Path, answer: bytes) -> Iterator[Server]:
    """FastAPI under the same uvicorn settings: reads the body and answers ``answer``."""
    path = directory / "answer"
    path.write_bytes(answer)
    with _listener() as listener:
        command = [sys.executable, "-m", "benchmarks.speed.bare", str(listener.fileno()), str(path)]
        with _running([command], listener, {"NIDIM_DATA_DIR": str(directory)}, directory / "bare.log") as one:
            yield one


@contextlib.contextmanager
def peer(name: str, directory: Path, model: Path, request: bytes) -> Iterator[Server]:
    """LitServe or BentoML; ready when it has answered ``request``. Asleep: use it ``awake``."""
    with _listener() as listener:
        port = listener.getsockname()[1]
    env = {"PEER_MODEL": str(model), "PEER_SIZE": str(FACTS.height), "OMP_NUM_THREADS": "1"}
    env |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(directory / "bentoml")}
    command = [str(peers.python()), str(peers.HERE / "peer_serving.py"), name, str(port)]
    with _running([command], None, env, directory / f"{name}.log", port=port) as server:
        _wait_for_answer(server, request, directory / f"{name}.log")
        server._signal(signal.SIGSTOP)
        yield server


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        yield listener


@contextlib.contextmanager
def _running(
    commands: Sequence[Sequence[str]],
    listener: socket.socket | None,
    env: dict[str, str],
    log: Path,
    *,
    port: int = 0,
) -> Iterator[Server]:
    fds = (listener.fileno(),) if listener else ()
    with log.open("wb") as output:
        processes = tuple(
            subprocess.Popen(
                command,
                env={**os.environ, **env},
                pass_fds=fds,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=peers.ROOT,
            )
            for command in commands
        )
    server = Server(listener.getsockname()[1] if listener else port, processes)
    try:
        yield server
    finally:
        server._signal(signal.SIGCONT)
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(port: int, request: bytes, *, timeout_s: float = START_S) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12] or 0), body


def _wait_for_answer(server: Server, request: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.processes[0].poll() is None:
        with contextlib.suppress(OSError):
            if ask(server.port, request)[0] == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(log.read_text()[-4000:])


def values(body: bytes) -> np.ndarray:
    """The numbers of the innermost lists of a JSON answer."""

    def found(part: Any) -> list[float]:
        if isinstance(part, dict):
            return [x for value in part.values() if isinstance(value, list) for x in found(value)]
        if isinstance(part, list):
            return [x for value in part for x in (found(value) if isinstance(value, list) else [value])]
        return []

    return np.array(found(json.loads(body)), dtype=np.float32)


def gauge(port: int, name: str) -> float:
    """A figure of ``/metrics``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0
