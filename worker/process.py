"""The training child as the runner sees it: start it, read its events, stop it, know how it ended.

Three pipes and a file: *events* carries JSON lines from the child, *lifeline* carries nothing and tells the child by
its end that the runner is gone, and what libraries print goes to a log file that never grows without bound. The child
leads a process group of its own, so that whatever it started goes with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from worker import memory
from worker.starting import Start, Task

LONGEST_LINE = 8 << 20
LONGEST_LOG = 16 << 20
TAIL = 8192


class Child:
    """A running training process. ``stop``, ``kill`` and ``enforce`` may be called from any thread."""

    def __init__(self, start: Start, *, scratch: Path, job_file: Path) -> None:
        self._log = scratch / "child.log"
        self._kill_at: float | None = None
        self._oom_kills = memory.oom_kills()
        self._lock = threading.Lock()
        self._events, events_out = os.pipe()
        lifeline_in, self._lifeline = os.pipe()
        arguments = ("--scratch", str(scratch), "--job", str(job_file))
        try:
            with self._log.open("ab") as log:
                self._process = start(Task(arguments, events_out, lifeline_in, log.fileno()))
        except OSError:
            self._close_pipes()
            raise
        finally:
            os.close(events_out)
            os.close(lifeline_in)
        os.set_blocking(self._events, False)

    @property
    def pid(self) -> int:
        """Process id; also that of its group. 0 while there is none yet."""
        return self._process.pid

    def lines(self, *, tick_s: float = 0.05) -> Iterator[bytes | None]:
        """Lines as they come, and None whenever ``tick_s`` passed; ends when the child is gone and all is read."""
        buffer, open_ = b"", True
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            while True:
                ended = self._process.poll() is not None
                data = self._read(selector, 0.0 if ended else tick_s) if open_ else None
                if data == b"":
                    open_ = False
                    selector.unregister(self._events)
                *lines, buffer = (buffer + (data or b"")).split(b"\n")
                yield from lines
                buffer = b"" if len(buffer) > LONGEST_LINE else buffer
                if not data:
                    if ended:
                        return
                    if not open_:
                        time.sleep(tick_s)
                    self._bound_log()
                    yield None

    def _read(self, selector: selectors.BaseSelector, timeout: float) -> bytes | None:
        """What is there within ``timeout``: bytes, b"" at the end, None if nothing came."""
        if not selector.select(timeout):
            return None
        with contextlib.suppress(BlockingIOError):
            return os.read(self._events, 1 << 16)
        return None

    def _bound_log(self) -> None:
        if self._log.stat().st_size > LONGEST_LOG:
            os.truncate(self._log, 0)  # it is open for appending: the next word starts at the front again

    def stop(self, *, grace_s: float) -> None:
        """Ask it to write a checkpoint and leave; ``enforce`` kills it once ``grace_s`` is over."""
        with self._lock:
            if self._kill_at is None:
                self._process.terminate()
            deadline = time.monotonic() + grace_s
            self._kill_at = deadline if self._kill_at is None else min(self._kill_at, deadline)

    @property
    def lives(self) -> bool:
        """Whether it is there still."""
        return self._process.poll() is None

    def enforce(self) -> None:
        """Kill it if it was asked to leave and its grace is over."""
        with self._lock:
            late = self._kill_at is not None and time.monotonic() >= self._kill_at
        if late:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the child and all that it started."""
        if not (pid := self.pid):
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def close(self) -> int:
        """Make sure that nothing of it is left; the exit status, negative for a signal."""
        if self._process.poll() is None:
            self.kill()
        code = self._process.wait()
        self.kill()
        with self._lock:
            self._kill_at = None
        self._close_pipes()
        return code

    def oom_killed(self) -> bool:
        """Whether the kernel ended processes for want of memory since this one was started."""
        return memory.oom_kills() > self._oom_kills

    def _close_pipes(self) -> None:
        for fd in (self._events, self._lifeline):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._events = self._lifeline = -1

    def words(self) -> str:
        """The end of what it printed."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - TAIL))
            return log.read().decode(errors="replace")
        return ""
