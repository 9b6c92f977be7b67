"""What event streams share: the newest events of one job, encoded once, in a ring; a reader is a position in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from service import views
from service.store.events import Event

RING_EVENTS = 1000
RING_BYTES = 1 << 18
CHUNK_BYTES = 1 << 16
"""About so much is given to a reader at a time; the rest waits where all readers share it."""
CHUNKS = 8
"""Positions at which readers of one job share the bytes that they are sent."""


@dataclass(frozen=True)
class Encoded:
    """One event as it is sent."""

    id: int
    data: bytes

    @classmethod
    def of(cls, row: Event) -> Encoded:
        """``row`` as a server-sent event."""
        parts = (row.id, row.type.encode(), orjson.dumps(views.event(row)))
        return cls(row.id, b"id: %d\nevent: %s\ndata: %s\n\n" % parts)


@dataclass(frozen=True)
class News:
    """The events after a position, the last position that they cover, and whether the job ends there."""

    events: list[Encoded]
    upto: int
    over: bool = False


@dataclass(eq=False)
class Reader:
    """One stream: it has every event up to ``after``."""

    channel: Channel
    after: int


@dataclass(eq=False)
class Channel:
    """The events of one job in (floor, upto], and who follows them. For one event loop."""

    job_id: str
    floor: int
    upto: int
    over: bool
    readers: set[Reader] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ring: deque[Encoded] = field(default_factory=deque)
    _bytes: int = 0
    _chunks: dict[int, tuple[bytes, int]] = field(default_factory=dict)

    def push(self, news: News) -> None:
        """Append the events, forget what every reader has or what is too much, wake the readers."""
        self._chunks.clear()
        self._forget(min((reader.after for reader in self.readers), default=self.upto))
        for event in news.events:
            self._ring.append(event)
            self._bytes += len(event.data)
        self.upto, self.over = news.upto, news.over
        while len(self._ring) > RING_EVENTS or self._bytes > RING_BYTES:
            self._forget(self._ring[0].id)
        self.wake()

    def wake(self) -> None:
        """Let every reader look again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def chunk(self, after: int) -> tuple[bytes, int]:
        """Some of the events after ``after``, which is not below the floor, and the last position they cover."""
        found = self._chunks.get(after)
        if found is None:
            later = (event for event in self._ring if event.id > after)
            found = joined(later, upto=max(after, self.upto))
            if len(self._chunks) < CHUNKS:
                self._chunks[after] = found
        return found

    def _forget(self, upto: int) -> None:
        while self._ring and self._ring[0].id <= upto:
            event = self._ring.popleft()
            self._bytes -= len(event.data)
            self.floor = event.id
        if not self._ring:
            self.floor = self.upto


def joined(events: Iterable[Encoded], *, upto: int) -> tuple[bytes, int]:
    """The first events, about CHUNK_BYTES of them, and the last position they cover: ``upto`` if these are all."""
    pieces: list[bytes] = []
    size, last = 0, 0
    for event in events:
        if size >= CHUNK_BYTES:
            return b"".join(pieces), last
        pieces.append(event.data)
        size, last = size + len(event.data), event.id
    return b"".join(pieces), upto
