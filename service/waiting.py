"""Whether one more job may wait: a bound on how many do, so that not every submission counts them.

A count is one statement of five of a submission. Between two counts the bound grows with each job that this process
takes and never falls, so where nobody else queues jobs it is never too low, and a refusal always comes from a new
count. Other processes are seen at the next count, a second later at most.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy.orm import Session

from service.store import jobs

COUNT_EVERY_S = 1.0


class Waiting:
    """How many jobs are queued, at most. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bound = self._taken = 0
        self._until = 0.0

    def takes_one(self, tx: Session, most: int) -> bool:
        """Whether one more job may be queued, so that there are ``most`` at most; it is counted if so."""
        with self._lock:
            if time.monotonic() < self._until and self._bound < most:
                return self._take()
            before = self._taken
        counted = jobs.count_waiting(tx)
        with self._lock:
            self._bound = counted + self._taken - before
            self._until = time.monotonic() + COUNT_EVERY_S
            return self._bound < most and self._take()

    def _take(self) -> bool:
        self._bound += 1
        self._taken += 1
        return True
