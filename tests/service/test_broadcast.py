"""Event streams from the inside: every event once and in order to every reader, at the price of one."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from service import broadcast, channels
from service.broadcast import Broadcaster
from service.errors import NotFound
from service.refusals import Overloaded
from service.store import Store, jobs

ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
Take = Callable[..., jobs.Lease]


@contextlib.asynccontextmanager
async def broadcasting(store: Store, *, most: int = 1000) -> AsyncIterator[Broadcaster]:
    stopping = asyncio.Event()
    made = Broadcaster(store, stopping, poll_s=0.01, most=most)
    try:
        yield made
    finally:
        stopping.set()
        await made.close()
        assert made.streams == 0


async def ids(
    made: Broadcaster, job_id: str, after: int = 0, *, slowly: asyncio.Event | None = None
) -> list[int]:
    """What one reader gets until the end; a slow one stops after its first bytes until it is told to go on."""
    found: list[int] = []
    async with made.following(job_id, after) as reader:
        async for data in made.chunks(reader, ping_s=60):
            found += [int(number) for number in ID.findall(data)]
            if slowly is not None:
                await slowly.wait()
    return found


def write(store: Store, lease: jobs.Lease, count: int, words: str = "x") -> None:
    with store.begin() as tx:
        jobs.add_events(tx, lease, [("log", {"text": words})] * count)


def end(store: Store, lease: jobs.Lease) -> None:
    with store.begin() as tx:
        jobs.fail(tx, lease, "x", "y")


async def settled(made: Broadcaster, readers: int) -> None:
    async with asyncio.timeout(60):
        while sum(len(channel.readers) for channel in made._channels.values()) < readers:
            await asyncio.sleep(0.005)


def test_all_readers_get_all_events_for_the_queries_of_one(store: Store, new_job: Any, take: Take) -> None:
    async def scene(readers: int) -> tuple[list[list[int]], int]:
        lease = take(store, new_job(store).id)
        asked = 0

        def count(*_: Any) -> None:
            nonlocal asked
            asked += 1

        async with broadcasting(store) as made:
            tasks = [asyncio.create_task(ids(made, lease.job_id, after=2)) for _ in range(readers)]
            await settled(made, readers)
            event.listen(store.engine, "before_cursor_execute", count)
            for _ in range(20):
                await asyncio.to_thread(write, store, lease, 7)
            await asyncio.to_thread(end, store, lease)
            found = await asyncio.gather(*tasks)
            event.remove(store.engine, "before_cursor_execute", count)
        return found, asked

    one, asked_by_one = asyncio.run(scene(1))
    many, asked_by_many = asyncio.run(scene(200))
    assert one == [list(range(3, 3 + 20 * 7 + 1))]
    assert many == one * 200
    assert asked_by_many < 10 * asked_by_one


def test_nobody_asks_the_database_while_nobody_follows(sqlite_store: Store, new_job: Any) -> None:
    async def scene() -> None:
        async with broadcasting(sqlite_store) as made:
            lost = asyncio.create_task(ids(made, new_job(sqlite_store).id))
            await settled(made, 1)
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
            assert made._watching is not None
            await asyncio.wait_for(made._watching, 20)
            assert made._channels == {}

    asyncio.run(scene())


@pytest.mark.parametrize("words", ["x", "y" * 3000])
def test_a_slow_reader_holds_nobody_up_and_loses_nothing(
    sqlite_store: Store, new_job: Any, take: Take, words: str
) -> None:
    lease, total = take(sqlite_store, new_job(sqlite_store).id), 2 + 40 * 60 + 1

    async def scene() -> None:
        async with broadcasting(sqlite_store) as made:
            go = asyncio.Event()
            slow = [asyncio.create_task(ids(made, lease.job_id, slowly=go)) for _ in range(3)]
            quick = [asyncio.create_task(ids(made, lease.job_id)) for _ in range(3)]
            await settled(made, 6)
            channel = made._channels[lease.job_id]
            for _ in range(40):
                await asyncio.to_thread(write, sqlite_store, lease, 60, words)
                assert len(channel._ring) <= channels.RING_EVENTS
                assert channel._bytes <= channels.RING_BYTES
            await asyncio.to_thread(end, sqlite_store, lease)
            assert await asyncio.gather(*quick) == [list(range(1, total + 1))] * 3
            assert not any(task.done() for task in slow)
            go.set()
            assert await asyncio.gather(*slow) == [list(range(1, total + 1))] * 3

    asyncio.run(scene())


def test_readers_join_anywhere_and_see_the_rest(store: Store, new_job: Any, take: Take) -> None:
    lease = take(store, new_job(store).id)
    write(store, lease, 2 * broadcast.PAGE + 50)
    last = 2 + 2 * broadcast.PAGE + 50

    async def scene() -> None:
        async with broadcasting(store) as made:
            places = [0, 1, last // 2, last - 1, last, last + 1, last + 100]
            tasks = [asyncio.create_task(ids(made, lease.job_id, after)) for after in places]
            await settled(made, len(places))
            await asyncio.to_thread(write, store, lease, 10)
            await asyncio.to_thread(end, store, lease)
            found = await asyncio.gather(*tasks)
            assert found == [list(range(after + 1, last + 12)) for after in places]
            late = await asyncio.gather(*(ids(made, lease.job_id, after) for after in places))
            assert late == found

    asyncio.run(scene())


def test_missing_events_are_no_reason_to_wait(store: Store, new_job: Any, take: Take) -> None:
    """Retention deletes all but the states of old jobs."""
    lease = take(store, new_job(store).id)
    write(store, lease, 300)
    end(store, lease)
    with store.begin() as tx:
        tx.execute(text("DELETE FROM events WHERE type = 'log'"))

    async def scene() -> None:
        async with broadcasting(store) as made:
            assert await ids(made, lease.job_id) == [1, 2, 303]
            assert await ids(made, lease.job_id, 100) == [303]

    asyncio.run(scene())


def test_a_job_that_is_deleted_ends_its_streams(sqlite_store: Store, new_job: Any) -> None:
    job_id = new_job(sqlite_store).id

    async def scene() -> None:
        async with broadcasting(sqlite_store) as made:
            task = asyncio.create_task(ids(made, job_id))
            await settled(made, 1)
            with sqlite_store.begin() as tx:
                tx.execute(text("DELETE FROM jobs"))
            assert set(await asyncio.wait_for(task, 30)) <= {1}

    asyncio.run(scene())


def test_a_database_that_is_away_is_no_end(
    sqlite_store: Store, new_job: Any, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(sqlite_store, new_job(sqlite_store).id)
    monkeypatch.setattr(broadcast, "AGAIN_S", 0.01)

    async def scene() -> None:
        async with broadcasting(sqlite_store) as made:
            task = asyncio.create_task(ids(made, lease.job_id, 2))
            await settled(made, 1)
            with sqlite_store.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE events RENAME TO gone")
                connection.exec_driver_sql("UPDATE jobs SET last_event_id = 3")
            late = asyncio.create_task(ids(made, lease.job_id, 0))
            await settled(made, 2)
            await asyncio.sleep(0.1)
            with sqlite_store.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE jobs SET last_event_id = 2")
                connection.exec_driver_sql("ALTER TABLE gone RENAME TO events")
            write(sqlite_store, lease, 3)
            end(sqlite_store, lease)
            assert await asyncio.wait_for(task, 60) == [3, 4, 5, 6]
            assert await asyncio.wait_for(late, 60) == [1, 2, 3, 4, 5, 6]

    asyncio.run(scene())


def test_silence_is_broken_and_stopping_ends_everything(sqlite_store: Store, new_job: Any) -> None:
    job_id = new_job(sqlite_store).id

    async def scene() -> None:
        async with broadcasting(sqlite_store) as made, made.following(job_id, 1) as reader:
            chunks = made.chunks(reader, ping_s=0.01)
            assert await anext(chunks) == b""
            made._stopping.set()
            assert [data async for data in chunks if data] == []

    asyncio.run(scene())


def test_there_is_a_limit_and_a_job_to_follow(sqlite_store: Store, new_job: Any) -> None:
    job_id = new_job(sqlite_store).id

    async def scene() -> None:
        async with broadcasting(sqlite_store, most=2) as made:
            for unknown in ("job_" + "0" * 26, "\x00", "job_"):
                with pytest.raises(NotFound):
                    await ids(made, unknown)
            async with made.following(job_id, 0), made.following(job_id, 0):
                with pytest.raises(Overloaded):
                    await ids(made, job_id)

    asyncio.run(scene())
