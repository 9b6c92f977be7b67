"""The laws of the batcher, with engines that are slow, broken or picky."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.inference import dummy
from service.inference.admission import Bound, Pace, QueueFull
from service.inference.batcher import Answer, Batcher, BatcherClosed


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Engine:
    """The dummy encoder behind a gate, which notes the batches that it saw."""

    def __init__(self, poison: int | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self.poison = poison

    def __call__(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.gate.wait(60)
        self.sizes.append(len(images))
        if self.poison is not None and (images[:, 0, 0, 0] == self.poison).any():
            raise ValueError("poison")
        return dummy.embed(images)


def some(n: int, first: int = 0) -> np.ndarray[Any, Any]:
    """Images that all differ; the first pixel counts from ``first``."""
    images = np.random.default_rng(first).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(first, first + n)
    return images


def batcher(engine: Callable[..., Any], executor: ThreadPoolExecutor, **limits: int) -> Batcher:
    return Batcher(
        engine, dim=dummy.DIM, executor=executor, **{"max_batch": 8, "bound": Bound(100), **limits}
    )


def submit_all(engine: Engine, executor: ThreadPoolExecutor, sizes: list[int], **limits: int) -> list[Answer]:
    async def run() -> list[Answer]:
        queue = batcher(engine, executor, **limits)
        return await asyncio.gather(*(queue.submit(some(n, 7 * i % 200)) for i, n in enumerate(sizes)))

    return asyncio.run(run())


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 20), max_size=12), max_batch=st.integers(1, 9))
def test_rows_come_back_in_order_whatever_the_batching(sizes: list[int], max_batch: int) -> None:
    with ThreadPoolExecutor(1) as executor:
        answers = submit_all(Engine(), executor, sizes, max_batch=max_batch, bound=Bound(1000))
    for i, (n, answer) in enumerate(zip(sizes, answers, strict=True)):
        np.testing.assert_array_equal(answer.rows, dummy.embed(some(n, 7 * i % 200)))
        assert answer.failed == {}
        assert answer.batch <= max_batch


def test_an_idle_engine_starts_at_once_and_a_busy_one_fills_its_batch(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def run() -> None:
        queue = batcher(engine, executor)
        tasks = [asyncio.create_task(queue.submit(some(1, i))) for i in range(9)]
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert engine.sizes[0] <= 8
    assert sum(engine.sizes) == 9
    assert len(engine.sizes) == 2


def test_a_failed_batch_is_retried_and_the_culprit_fails_alone(executor: ThreadPoolExecutor) -> None:
    async def run() -> list[Answer]:
        queue = batcher(Engine(poison=103), executor, max_batch=64)
        return await asyncio.gather(*(queue.submit(some(2, i)) for i in (0, 102, 50)))

    answers = asyncio.run(run())
    assert [sorted(answer.failed) for answer in answers] == [[], [1], []]
    assert np.isnan(answers[1].rows[1]).all()
    np.testing.assert_array_equal(answers[1].rows[0], dummy.embed(some(2, 102))[0])
    np.testing.assert_array_equal(answers[2].rows, dummy.embed(some(2, 50)))


def test_everybody_is_answered_when_everything_fails(executor: ThreadPoolExecutor) -> None:
    def broken(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise MemoryError

    def wrong_shape(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.zeros((1, 1))

    for engine in (broken, wrong_shape):

        async def run(engine: Any = engine) -> list[Answer]:
            queue = batcher(engine, executor)
            return await asyncio.gather(*(queue.submit(some(3)) for _ in range(5)))

        assert all(sorted(answer.failed) == [0, 1, 2] for answer in asyncio.run(run()))


def test_everybody_is_answered_when_the_thread_is_gone() -> None:
    async def run() -> None:
        gone = ThreadPoolExecutor(1)
        gone.shutdown()
        queue = batcher(Engine(), gone)
        found = await asyncio.gather(*(queue.submit(some(1)) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, RuntimeError) for answer in found)

    asyncio.run(run())


def test_the_queue_is_bounded_but_an_idle_engine_takes_anything(executor: ThreadPoolExecutor) -> None:
    engine = Engine()

    async def run() -> None:
        queue = batcher(engine, executor, max_batch=2, bound=Bound(4))
        assert len((await queue.submit(some(10))).rows) == 10
        engine.gate.clear()
        accepted = [asyncio.create_task(queue.submit(some(2)))]
        await asyncio.sleep(0.05)
        accepted += [asyncio.create_task(queue.submit(some(2, i))) for i in (10, 20)]
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull) as full:
            await queue.submit(some(1))
        assert full.value.retry_after_s >= 1
        accepted.append(asyncio.create_task(queue.submit(some(3, 30), begun=True)))
        engine.gate.set()
        assert [len(answer.rows) for answer in await asyncio.gather(*accepted)] == [2, 2, 2, 3]
        assert queue.waiting == 0
        assert len((await queue.submit(some(1))).rows) == 1

    asyncio.run(run())


def test_the_wait_is_bounded_by_the_speed_of_late() -> None:
    pace = Pace(Bound(images=1000, seconds=2.0))
    pace.admit(900, 100)  # nothing is known yet
    pace.note(10, 1.0)
    pace.admit(20, 500)
    with pytest.raises(QueueFull) as full:
        pace.admit(21, 1)
    assert full.value.retry_after_s == 3
    pace.admit(0, 5000)
    for _ in range(40):
        pace.note(100, 1.0)
    pace.admit(199, 1)
    with pytest.raises(QueueFull):
        pace.admit(201, 1)


def test_who_hung_up_is_skipped(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def run() -> None:
        queue = batcher(engine, executor, max_batch=2)
        first = asyncio.create_task(queue.submit(some(2)))
        await asyncio.sleep(0.05)
        gone = [asyncio.create_task(queue.submit(some(2, i))) for i in (10, 20)]
        kept = asyncio.create_task(queue.submit(some(2, 30)))
        await asyncio.sleep(0.05)
        for task in gone:
            task.cancel()
        engine.gate.set()
        await asyncio.gather(first, kept)
        assert queue.waiting == 0

    asyncio.run(run())
    assert engine.sizes == [2, 2]


def test_a_small_request_does_not_wait_for_all_of_a_large_one(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()
    finished: list[str] = []

    async def run() -> None:
        queue = batcher(engine, executor, max_batch=4)

        async def ask(name: str, n: int) -> None:
            await queue.submit(some(n))
            finished.append(name)

        large = asyncio.create_task(ask("large", 40))
        await asyncio.sleep(0.05)
        small = asyncio.create_task(ask("small", 1))
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(large, small)

    asyncio.run(run())
    assert finished == ["small", "large"]


def test_closing_answers_what_was_accepted(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def run() -> None:
        queue = batcher(engine, executor)
        accepted = [asyncio.create_task(queue.submit(some(5, i))) for i in range(4)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0)
        with pytest.raises(BatcherClosed):
            await queue.submit(some(1))
        engine.gate.set()
        await closing
        assert all(task.done() and len(task.result().rows) == 5 for task in accepted)

    asyncio.run(run())


def test_the_dummy_depends_on_each_image_alone() -> None:
    images = some(6)
    np.testing.assert_array_equal(dummy.embed(images)[::-1], dummy.embed(images[::-1]))
    assert len(np.unique(dummy.embed(images), axis=0)) == 6
    assert dummy.embed(images[:0]).shape == (0, dummy.DIM)
