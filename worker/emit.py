"""Emit: the child's events, one JSON object a line, on a descriptor that nothing else writes to."""

from __future__ import annotations

import json
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
