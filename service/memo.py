"""What was just looked up: under load most requests ask the database nothing.

An entry lives for a tenth of a second, and this process drops all of them when it changes what they are about. So a
change made by another process is seen here after that time at most; one made here, at once. Those who ask for the
same thing at the same time share one look-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio.to_thread

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TTL_S = 0.1
MOST = 4096


class Memo(Generic[K, V]):
    """A few values by key, each for a short time. For one event loop."""

    def __init__(self, ttl_s: float = TTL_S) -> None:
        self._ttl_s = ttl_s
        self._entries: dict[K, tuple[float, V]] = {}
        self._flights: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, look_up: Callable[[], V]) -> V:
        """The value if it is young enough, else that of ``look_up``, which runs in a thread."""
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() < entry[0]:
            return entry[1]
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, look_up))
            self._flights[key] = flight
        return await asyncio.shield(flight)

    def clear(self) -> None:
        """Forget everything, and what is being looked up now: something changed."""
        self._entries = {}
        self._flights = {}

    async def _fly(self, key: K, look_up: Callable[[], V]) -> V:
        entries, flights = self._entries, self._flights
        try:
            value = await anyio.to_thread.run_sync(look_up)
        finally:
            flights.pop(key, None)
        if len(entries) >= MOST:
            entries.clear()
        entries[key] = (time.monotonic() + self._ttl_s, value)
        return value
