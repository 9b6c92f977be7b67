"""Processes as forks of one that has imported all they need, which takes longer than most tests.

The processes themselves, ``python -m service.serve`` and ``python -m worker``, are what ``nidim up``, the campaigns,
the hostile corpus and the load tests start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service import serve

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("service.app", "service.farewell", "service.protocol", "worker.__main__", "tests.forking"),
        *("alembic.command", "uvicorn.loops.uvloop", "anyio._backends._asyncio"),
        *("nidim.bundle", "nidim.drift"),
    ]
)


class Forked:
    """``target(*args)`` in a process of its own with ``env`` as its environment; what it says goes to ``log``.

    Signals, ``poll`` and ``wait`` as of ``subprocess.Popen``.
    """

    def __init__(self, target: Callable[..., None], *args: Any, env: Mapping[str, str], log: Path) -> None:
        self._process = _context.Process(target=_become, args=(target, args, dict(env), log), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_server(listener: socket.socket, env: Mapping[str, str], log: Path) -> Forked:
    """``service.serve`` on a socket that is listening already."""
    return Forked(_serve, listener, env=env, log=log)


def _serve(listener: socket.socket) -> None:
    serve.main(["--fd", str(listener.detach())])


def _become(target: Callable[..., None], args: tuple[Any, ...], env: dict[str, str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    target(*args)
