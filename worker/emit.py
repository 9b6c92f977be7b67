"""Emit: the child's events, one JSON object a line, on a descriptor that nothing else writes to.

The log goes the same way (:class:`Records`): the runner writes it, in its own format and with the ids of the job.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import Any


class Emitter:
    """Writes whole lines; safe from any thread. A runner that is gone is no error: the lifeline tells."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd, self._lock = fd, threading.Lock()

    def __call__(self, kind: str, /, *, patience_s: float = -1, **data: Any) -> None:
        """Send ``{type, data}``; with ``patience_s``, give up if another thread is still writing by then."""
        line = json.dumps({"type": kind, "data": data}).encode() + b"\n"
        if not self._lock.acquire(timeout=patience_s):
            return
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            pass
        finally:
            self._lock.release()


class Records(logging.Handler):
    """Hands every record of the log to the runner."""

    def __init__(self, emit: Emitter) -> None:
        super().__init__()
        self._emit = emit
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """One line, with its traceback if it has one."""
        try:
            message = self.format(record)
            self._emit(
                "record", level=record.levelname, logger=record.name, message=message, pid=record.process
            )
        except Exception:
            self.handleError(record)
