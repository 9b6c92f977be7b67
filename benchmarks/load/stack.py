"""Real processes to measure: ``python -m service.serve`` on SQLite or on a PostgreSQL of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.postgresql import get_server
from service.settings import Settings
from service.store import Store, open_store

TICKS = os.sysconf("SC_CLK_TCK")
NewDatabase = Callable[[], str]
"""-> the URL of a new, empty database; empty for SQLite in the data directory."""


@dataclass(frozen=True)
class Api:
    """A running API process and the store that it works on."""

    port: int
    store: Store
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path

    def memory_mb(self, *, peak: bool = False) -> float:
        """Resident memory of the process, now or at its highest."""
        return _status_mb(self.process.pid, "VmHWM" if peak else "VmRSS")

    def tree_mb(self) -> float:
        """Resident memory of the process and all that it started."""
        return sum(_status_mb(pid, "VmRSS") for pid in tree(self.process.pid))

    def cpu_s(self) -> float:
        """Processor seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def api(directory: Path, database_url: str = "", **settings: Any) -> Iterator[Api]:
    """A server on a port of its own, ready to answer."""
    values = {"data_dir": directory, "database_url": database_url, "decode_processes": 1, **settings}
    env = {**os.environ, **{f"NIDIM_{name.upper()}": str(value) for name, value in values.items()}}
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener, log.open("wb") as output:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "service.serve", "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            command, env=env, pass_fds=(listener.fileno(),), stdout=output, stderr=output
        )
        try:
            _wait(port, process, log)
            chosen = Settings(**values)
            store = open_store(chosen)
            try:
                yield Api(port, store, chosen, process, log)
            finally:
                store.close()
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60),
        ):
            return
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


@contextlib.contextmanager
def databases(kind: str) -> Iterator[NewDatabase]:
    """Where new databases come from: ``sqlite``, ``postgresql`` (a server of our own), or the URL of a server."""
    if kind == "sqlite":
        yield lambda: ""
    elif kind == "postgresql":
        with _postgresql() as url:
            yield lambda: _created(url)
    else:
        yield lambda: _created(kind)


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="nidim-load-pg-")
    server = get_server(directory)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def _created(url: str) -> str:
    import psycopg

    name = f"load_{time.time_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    base, _, options = url.partition("?")
    return base.rsplit("/", 1)[0] + f"/{name}" + (f"?{options}" if options else "")


def transactions(store: Store) -> int | None:
    """Transactions that this PostgreSQL database has committed so far; None for SQLite, which does not count."""
    if store.engine.dialect.name != "postgresql":
        return None
    with store.engine.connect() as connection:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(query).scalar_one())


class Peak:
    """The highest memory of a process and its children while the block runs, looked at ten times a second."""

    def __init__(self, server: Api) -> None:
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.tree_mb = 0.0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.tree_mb = max(self.tree_mb, self._server.tree_mb())


def _status_mb(pid: int, name: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def tree(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))
