"""Whether one more job may wait: a bound on how many do, so that not every submission counts them.

A count is one statement of four of a submission. Between two counts the bound grows with each job that this process
takes and never falls, so it is too low only by what others queue, another process or a worker that hands a job back;
the next count, a second later at most, sees them. A refusal always comes from a new count.
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
        """Whether one more job may be queued, so that there are ``most`` at most; the bound has it then."""
        with self._lock:
            before = self._taken
            if time.monotonic() < self._until and self._bound < most:
                self._take()
                return True
        counted = jobs.count_waiting(tx)
        with self._lock:
            # what was taken meanwhile may be counted, or not yet
            self._bound = counted + self._taken - before
            self._until = time.monotonic() + COUNT_EVERY_S
            if counted >= most:
                return False
            self._take()
            return True

    def _take(self) -> None:
        self._bound += 1
        self._taken += 1
