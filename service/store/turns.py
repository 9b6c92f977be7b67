"""Turns: the writers of one process, one after the other, in the order in which they came.

SQLite lets one transaction write at a time and makes the others look again and again, the longest waiting the least
often. Those of one process need not look: each hands over to the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import StoreBusy


class Turns:
    """A fair lock."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Hold the turn. Raises StoreBusy if it does not come in time."""
        self._take(timeout_s)
        try:
            yield
        finally:
            self._pass_on()

    def _take(self, timeout_s: float) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=timeout_s):
            return
        with self._guard:
            if mine in self._waiting:
                self._waiting.remove(mine)
                raise StoreBusy(retry_after_s=1)
            # it came in the last moment

    def _pass_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
