"""One real API process on a store of its own, with one tiny encoder, and eyes on all its processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.tiny_encoder import register, write_bundle
from benchmarks.tiny_generator import register_generator, write_generator
from service.settings import Settings
from service.store import open_store

ENCODER, GENERATOR = "gauss", "painter"
START_S = 120.0
KEY = "nk_" + "hostile-input-measured-with-this-key-0123456789"


@dataclass(frozen=True)
class Stack:
    """A running server: ``log`` is what it writes, ``headers`` authorise."""

    url: str
    port: int
    pid: int
    log: Path
    headers: dict[str, str]

    def client(self, *, timeout_s: float = 120.0) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=timeout_s)


@contextmanager
def serving(
    directory: Path,
    *,
    keyed: bool = False,
    versions: int = 1,
    python_path: Path | None = None,
    **settings: Any,
) -> Iterator[Stack]:
    """``python -m service.serve`` with ``gauss@1`` and ``painter@1`` registered, and as many more versions.

    ``keyed``: an admin key exists and is needed. ``python_path``: where its processes look for modules first.
    """
    values = {"data_dir": directory, "reaper_every_s": 1.0, **settings}
    values |= {"bootstrap_key": KEY} if keyed else {}
    directory.mkdir(parents=True, exist_ok=True)
    with _prepared(Settings(**values), versions), socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        log = directory / "server.log"
        process = _start(values, listener, log, python_path)
        try:
            _wait(f"http://127.0.0.1:{port}", process, log)
            headers = {"Authorization": f"Bearer {KEY}"} if keyed else {}
            yield Stack(f"http://127.0.0.1:{port}", port, process.pid, log, headers)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _prepared(settings: Settings, versions: int) -> Iterator[None]:
    store = open_store(settings)
    try:
        with tempfile.TemporaryDirectory() as bundle:
            facts = write_bundle(Path(bundle))
            for _ in range(versions):
                source = register(store, ENCODER, Path(bundle), facts)
        with tempfile.TemporaryDirectory() as bundle:
            made = write_generator(Path(bundle), source)
            for _ in range(versions):
                register_generator(store, GENERATOR, Path(bundle), made)
        yield
    finally:
        store.close()


def _start(
    values: dict[str, Any], listener: socket.socket, log: Path, python_path: Path | None
) -> subprocess.Popen[bytes]:
    env = {f"NIDIM_{name.upper()}": str(value) for name, value in values.items()}
    if python_path is not None:
        paths = (str(python_path), os.environ.get("PYTHONPATH", ""))
        env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "service.serve", "--fd", str(listener.fileno())],
            env={**os.environ, **env, "NIDIM_PORT": str(listener.getsockname()[1])},
            pass_fds=(listener.fileno(),),
            stdout=output,
            stderr=output,
        )


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/healthz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


class Watch:
    """Looks at the resident memory of a process and of all below it, several times a second."""

    EVERY_S = 0.1

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_mb: dict[str, float] = {}
        """Of the largest process of each kind, and of all together."""

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.EVERY_S):
            self._look()

    def _look(self) -> None:
        total = 0.0
        for pid, kind in processes(self._pid):
            now, high = memory_mb(pid)
            total += now
            self._note(kind, high)
        self._note("all together", total)

    def _note(self, kind: str, mb: float) -> None:
        self.peak_mb[kind] = max(self.peak_mb.get(kind, 0.0), mb)


def processes(root: int) -> list[tuple[int, str]]:
    """(pid, kind) of a server and of the processes below it."""
    found = [(root, "api")]
    for pid in _below(root):
        command = _read(pid, "cmdline").replace("\0", " ")
        kind = (
            "decoder" if "inference.decoder" in command else "ingest" if "ingest_main" in command else "other"
        )
        found.append((pid, kind))
    return found


def _below(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _read(int(entry.name), "stat")):
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory of one process, now and at its highest."""
    fields = dict(line.split(":", 1) for line in _read(pid, "status").splitlines() if ":" in line)
    now, high = (int(fields.get(name, "0 kB").split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, high


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
