"""Processes of a stack under fire: found in /proc by a mark in their environment, started again when they die.

Every process that a stack starts inherits ``CHAOS_STACK=<mark>``, its trainings and their own children included. So
what a stack left behind can be found whatever happened to its parents, and nothing else is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "CHAOS_STACK"
PAUSE_S = 0.5


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60, every_s: float = 0.05) -> Any:
    """The first true value of ``condition``. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every_s)
    raise TimeoutError(f"not within {seconds:.0f} s: {what}")


def command_line(pid: int) -> str:
    """How the process was called; empty once it is gone or a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def name(pid: int) -> str:
    """What it calls itself; empty once it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether it has a handler for the signal; one that is still starting has none, and would die of it."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
    return False


def parent(pid: int) -> int:
    """Its parent; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def state(pid: int) -> str:
    """As ps shows it (R, S, T stopped, Z zombie); empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return ""


def children(pid: int) -> list[int]:
    """Its living children."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def marked(mark: str) -> list[int]:
    """Every living process of the stack with this mark, but for the one that asks."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (path / "environ").read_bytes().split(b"\0") and command_line(int(path.name)):
                    found.append(int(path.name))
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; whether there was such a process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def end_all(mark: str, seconds: float = 10) -> None:
    """SIGKILL to whatever of the stack is left, stopped processes too."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)


@dataclass
class Service:
    """One process that is started again half a second after it died, as a supervisor of servers would do it."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    fds: tuple[int, ...] = ()
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    held: bool = False
    """While held down it is not started again."""
    process: subprocess.Popen[bytes] | None = None
    _due: float = field(default=0.0, repr=False)

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self) -> None:
        """Start it."""
        identity = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.env},
                pass_fds=self.fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity,  # type: ignore[call-overload]
            )

    def watch(self) -> None:
        """Start it again if it died and its pause is over."""
        if self.pid is not None or self.held:
            self._due = 0.0
        elif not self._due:
            self._due = time.monotonic() + PAUSE_S
        elif time.monotonic() >= self._due:
            self._due = 0.0
            self.start()

    def stop(self, seconds: float = 20) -> bool:
        """End it; whether it went by itself."""
        self.held = True
        if self.process is None or self.pid is None:
            return True
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True


class Supervisor:
    """Watches services in a thread."""

    def __init__(self) -> None:
        self.services: list[Service] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            for service in list(self.services):
                service.watch()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
