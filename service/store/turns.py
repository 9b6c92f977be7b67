"""Turns: the writers of one process, one after the other, in the order in which they came.

SQLite lets one transaction write at a time and makes the others look again and again, the longest waiting the least
often. Those of one process need not look: each hands over to the next, and with the turn it may hand over the
transaction that it has opened (:mod:`service.store.group`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import StoreBusy

T = TypeVar("T")


@dataclass
class _Place(Generic[T]):
    """Of one that waits. ``heir``: it can go on with what the one before has opened, which is ``inherited`` then."""

    heir: bool
    inherited: T | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Turns(Generic[T]):
    """A fair lock."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[_Place[T]] = deque()

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Hold the turn. Raises StoreBusy if it does not come in time."""
        self.take(timeout_s)
        try:
            yield
        finally:
            self.pass_on()

    def take(self, timeout_s: float, *, heir: bool = False) -> T | None:
        """Wait for the turn; what was handed over with it, which only an ``heir`` gets. Raises StoreBusy."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return None
            place = _Place[T](heir)
            place.lock.acquire()
            self._waiting.append(place)
        if place.lock.acquire(timeout=timeout_s):
            return place.inherited
        with self._guard:
            if place in self._waiting:
                self._waiting.remove(place)
                raise StoreBusy(retry_after_s=1)
            return place.inherited  # it came in the last moment

    def pass_on(self) -> None:
        """The turn to the next, if any."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().lock.release()
            else:
                self._taken = False

    def hand_over(self, thing: T) -> bool:
        """The turn and ``thing`` to the next, if there is one and it is an heir; else the turn stays here."""
        with self._guard:
            if not self._waiting or not self._waiting[0].heir:
                return False
            heir = self._waiting.popleft()
            heir.inherited = thing
            heir.lock.release()
            return True
