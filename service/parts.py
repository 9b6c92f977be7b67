"""The parts of a running stack: child processes that are started, watched, started again and stopped.

A part lives in a session of its own (a Ctrl-C in the terminal reaches the launcher alone, which then stops its parts
in order) and on a leash (it leaves when the launcher dies, however that dies).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service import leash

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0
"""A part that lived this long starts with the first pause again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to start and stop one part; ``fds`` are open files that it inherits under the same numbers."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()
    stop_s: float = 10.0


def pause_after(deaths: int) -> float:
    """Seconds to wait before the next start, after ``deaths`` ≥ 1 deaths in a row."""
    return float(min(FIRST_PAUSE_S * 2 ** (deaths - 1), LONGEST_PAUSE_S))


def spawn(plan: Plan) -> subprocess.Popen[bytes]:
    """Start the part on its leash."""
    wrapper = [sys.executable, "-IS", str(Path(leash.__file__)), str(os.getpid()), "--"]
    return subprocess.Popen(
        [*wrapper, *plan.command],
        env={**os.environ, **plan.env},
        pass_fds=plan.fds,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


class Part:
    """One part: ``start``, then ``watch`` now and then, then ``ask_to_stop`` and ``wait``."""

    def __init__(self, plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self.deaths = 0
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._start_again_at = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it is thought alive."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process."""
        self._process = spawn(self.plan)
        self._started_at = self._clock()
        log.debug("%s started (pid %d)", self.plan.name, self._process.pid)

    def watch(self) -> None:
        """Notice that it died; start it again when its pause is over."""
        if self._process is None:
            if self._clock() >= self._start_again_at:
                self.start()
            return
        code = self._process.poll()
        if code is not None:
            self._died(code)

    def _died(self, code: int) -> None:
        now = self._clock()
        self.deaths = 1 if now - self._started_at >= STEADY_S else self.deaths + 1
        pause = pause_after(self.deaths)
        self._process, self._start_again_at = None, now + pause
        log.warning("%s ended (%s); it starts again in %.1f s", self.plan.name, how(code), pause)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the part and all that it left in its session."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.poll() is not None


def stop(parts: list[Part], *, hurry: Callable[[], bool] = lambda: False) -> None:
    """SIGTERM to all, wait for the most patient of them, SIGKILL to those that stay, or when told to ``hurry``."""
    for part in parts:
        part.ask_to_stop()
    deadline = time.monotonic() + max((part.plan.stop_s for part in parts), default=0.0)
    while not all(part.gone() for part in parts) and time.monotonic() < deadline and not hurry():
        time.sleep(0.05)
    for part in parts:
        if not part.gone():
            log.warning("%s did not stop in time and is killed", part.plan.name)
        part.kill()


def how(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
