"""How many bytes the embedding requests of this process hold: counted as they come, and bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class TooManyBytes(Exception):
    """Embedding requests of too many bytes are at work already."""


class Budget:
    """Of all requests together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    @contextlib.contextmanager
    def admitted(self, expected: int) -> Iterator[Room]:
        """Room for a request that says it will need ``expected`` bytes; nothing is reserved for the saying.

        Raises TooManyBytes where there is no room for so many now.
        """
        room = Room(self)
        room.require(expected)
        try:
            yield room
        finally:
            room.give(room.held)


class Room:
    """Of one request."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    def require(self, size: int) -> None:
        """Raises TooManyBytes if there is no room for ``size`` more; alone, a request gets whatever it needs."""
        budget = self._budget
        if budget.taken > self.held and budget.taken + size > budget.limit:
            raise TooManyBytes

    def take(self, size: int) -> None:
        """Hold ``size`` more bytes. Raises TooManyBytes."""
        self.require(size)
        self.held += size
        self._budget.taken += size

    def arrived(self, piece: bytes) -> None:
        """A piece of the body. Raises TooManyBytes."""
        self.take(len(piece))

    def give(self, size: int) -> None:
        """Hold ``size`` fewer."""
        self.held -= size
        self._budget.taken -= size

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """``size`` more bytes for a while. Raises TooManyBytes."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)
