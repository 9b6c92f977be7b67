"""Event streams: one look at the database for all readers of this process.

If every stream asked by itself, a thousand readers would cost thousands of queries a second. Here one task asks,
every ``sse_poll_s``, how far the followed jobs have come (their rows say it: ``last_event_id``), reads what is new
once, and wakes the readers; while nobody follows anything, it asks nothing.

Nothing is queued for anybody: who is slow falls out of the ring of his job's channel and reads pages of the database,
at his own pace, until he is back. Every event comes once and in order, whichever way it comes. A database that is
away for a while is no end of a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread

from service.channels import Channel, Encoded, News, Reader, joined
from service.errors import NotFound
from service.refusals import Overloaded
from service.store import Store, events, jobs

PAGE = 200
"""Events of one look at the database."""
READ_THREADS = 4
"""For pages of readers that are behind: a thousand that come at once must not keep other requests waiting."""
AGAIN_S = 1.0
"""Until a stream that could not read tries again."""

logger = logging.getLogger(__name__)


class Broadcaster:
    """All event streams of this process. For one event loop."""

    def __init__(self, store: Store, stopping: asyncio.Event, *, poll_s: float, most: int) -> None:
        self._store, self._stopping, self._poll_s, self._most = store, stopping, poll_s, most
        self._channels: dict[str, Channel] = {}
        self._flights: dict[tuple[str, int], asyncio.Task[News]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._limiter = anyio.CapacityLimiter(READ_THREADS)
        self.streams = 0

    @contextlib.asynccontextmanager
    async def following(self, job_id: str, after: int) -> AsyncIterator[Reader]:
        """A place among the readers of a job. Raises NotFound, Overloaded."""
        if self.streams >= self._most:
            raise Overloaded("Too many event streams are open; try again later.", retry_after_s=5)
        self.streams += 1
        try:
            reader = Reader(await self._channel(job_id), after)
            reader.channel.readers.add(reader)
            try:
                yield reader
            finally:
                self._leave(reader)
        finally:
            self.streams -= 1

    async def chunks(self, reader: Reader, *, ping_s: float) -> AsyncIterator[bytes]:
        """What the reader is to be sent, until the job has ended; ``b""`` after a silence of ``ping_s``."""
        channel = reader.channel
        while not self._stopping.is_set():
            if reader.after < channel.floor:
                async for data in self._catch_up(reader):
                    yield data
                continue
            changed = channel.changed
            data, reader.after = channel.chunk(reader.after)
            if data:
                yield data
            elif channel.over and reader.after >= channel.upto:
                return
            elif not await _within(ping_s, changed):
                yield b""

    async def close(self) -> None:
        """Wait for the task, after ``stopping`` was set."""
        if self._watching is not None:
            await self._watching

    async def _channel(self, job_id: str) -> Channel:
        """The job's channel; its first reader opens it at the job's last event. Raises NotFound."""
        found = self._channels.get(job_id)
        if found is None:
            head = await anyio.to_thread.run_sync(self._head, job_id)
            found = Channel(job_id, head.last_event_id, head.last_event_id, head.ended)
            found = self._channels.setdefault(job_id, found)
            if self._watching is None or self._watching.done():
                self._watching = asyncio.create_task(self._watch())
        return found

    def _head(self, job_id: str) -> jobs.Head:
        with self._store.session() as tx:
            for head in jobs.heads(tx, [job_id]):
                return head
        raise NotFound("There is no such job; look at the list for what exists.")

    def _leave(self, reader: Reader) -> None:
        channel = reader.channel
        channel.readers.discard(reader)
        if not channel.readers and self._channels.get(channel.job_id) is channel:
            del self._channels[channel.job_id]

    async def _watch(self) -> None:
        """Look again and again while anybody follows anything."""
        while self._channels and not self._stopping.is_set():
            if not await self._look():
                await _within(self._poll_s, self._stopping)
        for channel in self._channels.values():
            channel.wake()

    async def _look(self) -> bool:
        """Give every channel what is new; whether there is more."""
        live = {channel.job_id: channel for channel in self._channels.values() if not channel.over}
        if not live:
            return False
        positions = {job_id: channel.upto for job_id, channel in live.items()}
        try:
            found = await anyio.to_thread.run_sync(self._news, positions)
        except Exception:
            logger.exception("event streams wait for the database")
            return False
        for job_id, news in found.items():
            live[job_id].push(news)
        return any(len(news.events) == PAGE for news in found.values())

    def _news(self, positions: dict[str, int]) -> dict[str, News]:
        """What came after these positions, where anything did; a job that is gone is over."""
        found = {job_id: News([], upto, over=True) for job_id, upto in positions.items()}
        with self._store.session() as tx:
            for head in jobs.heads(tx, list(positions)):
                after = positions[head.id]
                if head.last_event_id <= after and not head.ended:
                    del found[head.id]
                    continue
                rows = [Encoded.of(row) for row in events.list_after(tx, head.id, after, PAGE)]
                last = len(rows) < PAGE
                found[head.id] = News(rows, head.last_event_id if last else rows[-1].id, head.ended and last)
        return found

    async def _catch_up(self, reader: Reader) -> AsyncIterator[bytes]:
        """A page of the database for a reader that is behind the ring."""
        floor = reader.channel.floor
        try:
            page = await self._page(reader.channel.job_id, reader.after)
        except Exception:
            logger.exception("an event stream waits for the database")
            await _within(AGAIN_S, self._stopping)
            return
        rest = deque(page.events)
        while rest and not self._stopping.is_set():
            data, reader.after = joined(rest, upto=page.upto)
            yield data
            while rest and rest[0].id <= reader.after:
                rest.popleft()
        if len(page.events) < PAGE and not rest:  # there is no more up to the floor, whatever ids are missing
            reader.after = max(reader.after, floor)

    async def _page(self, job_id: str, after: int) -> News:
        """A page of events; those who ask for the same at the same time share it."""
        key = (job_id, after)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(job_id, after))
            flight.add_done_callback(lambda task: self._landed(key, task))
        return await asyncio.shield(flight)

    async def _fly(self, job_id: str, after: int) -> News:
        return await anyio.to_thread.run_sync(self._read, job_id, after, limiter=self._limiter)

    def _landed(self, key: tuple[str, int], flight: asyncio.Task[News]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # it may be that nobody waits any more

    def _read(self, job_id: str, after: int) -> News:
        with self._store.session() as tx:
            rows = [Encoded.of(row) for row in events.list_after(tx, job_id, after, PAGE)]
        return News(rows, rows[-1].id if rows else after)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event comes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
