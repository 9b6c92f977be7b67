"""What may wait: so many images, and none longer than so many seconds at the speed of late."""

from __future__ import annotations

import math
from dataclasses import dataclass

WEIGHT = 0.2
"""Of the newest measurement."""


class QueueFull(Exception):
    """Too much waits; try again after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Bound:
    """Images that may wait, and seconds that the next one may have to."""

    images: int
    seconds: float = math.inf


class Pace:
    """Images a second of what serves a queue, and whether one more request may wait there."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._images_per_s: float | None = None

    def note(self, images: int, seconds: float) -> None:
        """So many were served in this time."""
        newest = images / max(seconds, 1e-6)
        known = newest if self._images_per_s is None else self._images_per_s
        self._images_per_s = known + WEIGHT * (newest - known)

    def admit(self, waiting: int, more: int) -> None:
        """Let ``more`` images wait behind ``waiting``; where none wait, any number. Raises QueueFull."""
        wait_s = waiting / self._images_per_s if self._images_per_s else 0.0
        if waiting and (waiting + more > self._bound.images or wait_s > self._bound.seconds):
            raise QueueFull(max(1, math.ceil(wait_s)))
