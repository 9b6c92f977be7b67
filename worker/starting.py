"""Ways to start a training: a new interpreter (``Afresh``), or a fork of one that has imported everything (``Warm``).

Both take the same arguments and descriptors and give a ``Process``; what the training sees is the same, but for the
seconds until it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import IO, Protocol

from service.environment import without_secrets
from worker.forkserver import ENDED, STARTED, WORD

log = logging.getLogger(__name__)

PYTHON = (sys.executable, "-P", "-m")
LOOK_EVERY_S = 0.02
TAIL = 2048
CHILD = {"OMP_WAIT_POLICY": "PASSIVE", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Of a child's environment, where the worker's own says nothing else."""


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: no settings of ours, because it needs no database, no broker and no key.

    Threads of its mathematics sleep when they wait: spinning ones, on cores shared with the server, were measured to
    make a training on two busy cores six times slower. Its memory lies in huge pages where the system grants them to
    who asks (glibc on Linux): a step was measured to take 10 to 27 % less time, at the same peak.
    """
    return {**CHILD, **without_secrets(env)}


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training is started with: its arguments, and the descriptors of its events, its lifeline and its log."""

    arguments: tuple[str, ...]
    events: int
    lifeline: int
    log: int


class Process(Protocol):
    """A training as a process that leads a group of its own; as of ``subprocess.Popen``."""

    @property
    def pid(self) -> int:
        """Process id; 0 while there is none yet."""

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it lives."""

    def wait(self) -> int:
        """The exit status, when it has ended."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL."""


class Start(Protocol):
    """A way to start a training. Raises OSError."""

    def __call__(self, task: Task) -> Process:
        """The started process; the descriptors are the caller's to close."""


@dataclasses.dataclass(frozen=True)
class Afresh:
    """A new process each time."""

    command: tuple[str, ...] = (*PYTHON, "worker.child")

    def __call__(self, task: Task) -> Process:
        """Start ``command`` with the task's arguments."""
        descriptors = ["--events-fd", str(task.events), "--lifeline-fd", str(task.lifeline)]
        return subprocess.Popen(
            [*self.command, *task.arguments, *descriptors],
            stdin=subprocess.DEVNULL,
            stdout=task.log,
            stderr=task.log,
            env=environment(os.environ),
            pass_fds=(task.events, task.lifeline),
            start_new_session=True,
        )


class Warm:
    """A fork of a process that is kept ready; that process is started at once and again if it died.

    ``exports``: its trainings write model.onnx, and what that needs is imported ahead, too.

    Use from one thread. Linux only: elsewhere a fork of a process with these libraries is not safe.
    """

    def __init__(self, *, exports: bool) -> None:
        self._exports = exports
        self._server, self._requests, self._output = _start_server(exports=exports)

    @property
    def server_pid(self) -> int:
        """Process id of the one that forks."""
        return self._server.pid

    def __call__(self, task: Task) -> Process:
        """Ask for a fork. While the server still imports, the process has no id and ``terminate`` ends the server."""
        if (code := self._server.poll()) is not None:
            log.warning("the process that forks ended (%d) and is started again: %s", code, self._words())
            self.close()
            self._server, self._requests, self._output = _start_server(exports=self._exports)
        status, status_in = os.pipe()
        try:
            fds = [status_in, task.events, task.lifeline, task.log]
            socket.send_fds(self._requests, [json.dumps(task.arguments).encode()], fds)
        except OSError:
            os.close(status)
            raise
        finally:
            os.close(status_in)
        return Forked(self._server, status)

    def _words(self) -> str:
        """The end of what it printed: lines of libraries, which do not belong among ours."""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - TAIL))
        return self._output.read().decode(errors="replace")

    def close(self) -> None:
        """Let it go."""
        self._requests.close()
        self._output.close()
        self._server.kill()
        self._server.wait()


def way_to_start(*, warm: bool, exports: bool) -> Start:
    """``Warm`` if it is wanted and possible."""
    return Warm(exports=exports) if warm and sys.platform == "linux" else Afresh()


def _start_server(*, exports: bool) -> tuple[subprocess.Popen[bytes], socket.socket, IO[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the server)
    with theirs:
        server = subprocess.Popen(
            [
                *(*PYTHON, "worker.forkserver", "--requests-fd", str(theirs.fileno())),
                *(["--exports"] if exports else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(os.environ),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    return server, ours, output


class Forked:
    """A training that a fork server started, or will once it is ready."""

    def __init__(self, server: subprocess.Popen[bytes], status: int) -> None:
        os.set_blocking(status, False)
        self._server, self._status = server, status
        self._said: dict[bytes, int] = {}
        self._code: int | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id; 0 while there is none yet."""
        self.poll()
        return self._said.get(STARTED, 0)

    def poll(self) -> int | None:
        """Exit status; None while it lives. If the server died, so did its training, of SIGKILL."""
        with self._lock:
            if self._code is None and self._is_all_said():
                os.close(self._status)
                unheard = 0 if self._said else self._server.wait()
                self._code = self._said.get(ENDED, unheard or -signal.SIGKILL)
            return self._code

    def _is_all_said(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while ENDED not in self._said:
                word = os.read(self._status, WORD.size)
                if not word:
                    return True
                kind, number = WORD.unpack(word)
                self._said[kind] = number
            return True
        return False

    def wait(self) -> int:
        """The exit status, when it has ended."""
        while (code := self.poll()) is None:
            time.sleep(LOOK_EVERY_S)
        return code

    def terminate(self) -> None:
        """SIGTERM; a training that has not begun has nothing to save, so its server is ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is not None:
            return
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        else:
            self._server.kill()
