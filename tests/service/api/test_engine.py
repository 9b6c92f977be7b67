"""Encoders in memory and decoding processes, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny_encoder import SIZE
from service.inference import dummy, engine
from service.inference.admission import Bound, QueueFull
from service.inference.batcher import BatcherClosed
from service.inference.decoder_slot import Wanted
from service.inference.decoding import DecodePool, chunked
from service.inference.engine import Damaged, Loaded
from service.inference.registry import Registry
from service.inference.room import TooManyBytes
from service.inference.serving import BadImagesFound, Serving
from service.settings import Settings
from service.store import Store, open_store

WANTED = Wanted(size=8, channels=1, max_pixels=10_000)


class Stub:
    """Stands for an encoder of the store."""

    def __init__(self, name: str) -> None:
        self.id, self.name, self.version = f"enc_{name}", name, 1


def loaded(size_bytes: int = 10) -> Loaded:
    return Loaded(
        forward=dummy.embed,
        dim=dummy.DIM,
        size=dummy.SIZE,
        channels=dummy.CHANNELS,
        size_bytes=size_bytes,
        executor=ThreadPoolExecutor(1),
    )


def registry(load: Callable[..., Loaded], max_bytes: int = 25) -> Registry:
    return Registry(load, max_bytes=max_bytes, max_batch=8, bound=Bound(100))


def test_nobody_who_waits_for_an_encoder_is_given_one_that_has_left() -> None:
    """Room for one of four, which push each other out all the time."""

    async def run() -> int:
        kept, random = registry(lambda _: loaded(), max_bytes=10), np.random.default_rng(0)
        stubs: list[Any] = [Stub(name) for name in "abcd"]

        async def ask() -> int:
            done = 0
            for number in random.integers(0, 4, 40):
                async with kept.use(stubs[number]) as handle:
                    done += len((await handle.batcher.submit(dummy.probe())).rows)
            return done

        found = sum(await asyncio.gather(*(ask() for _ in range(12))))
        assert len(kept.handles) == 1
        await kept.close()
        return found

    assert asyncio.run(run()) == 12 * 40


def test_an_encoder_is_loaded_once_however_many_ask() -> None:
    calls: list[str] = []

    def load(encoder: Any) -> Loaded:
        calls.append(encoder.name)
        return loaded()

    async def run() -> None:
        kept = registry(load)

        async def ask() -> None:
            async with kept.use(Stub("a")) as handle:  # type: ignore[arg-type]
                assert len((await handle.batcher.submit(dummy.probe())).rows) == 1

        await asyncio.gather(*(ask() for _ in range(10)))
        await kept.close()

    asyncio.run(run())
    assert calls == ["a"]


def test_the_least_recently_used_leave_and_never_while_in_use() -> None:
    async def run() -> None:
        kept = registry(lambda _: loaded(10))

        def names() -> list[str]:
            return [handle.encoder.name for handle in kept.handles]

        async with kept.use(Stub("a")):  # type: ignore[arg-type]
            for name in ("b", "c", "b", "d"):
                async with kept.use(Stub(name)):  # type: ignore[arg-type]
                    pass
            assert names() == ["a", "d"]
        async with kept.use(Stub("e")):  # type: ignore[arg-type]
            pass
        assert names() == ["d", "e"]
        kept.forget("enc_d")
        assert names() == ["e"]
        await kept.close()
        assert names() == []

    asyncio.run(run())


def test_loading_one_encoder_never_stalls_another() -> None:
    gate = threading.Event()

    def load(encoder: Any) -> Loaded:
        if encoder.name == "slow":
            gate.wait(60)
        return loaded()

    async def run() -> None:
        kept = registry(load)

        async def ask(name: str) -> None:
            async with kept.use(Stub(name)) as handle:  # type: ignore[arg-type]
                await handle.batcher.submit(dummy.probe())

        slow = asyncio.create_task(ask("slow"))
        await asyncio.sleep(0.02)
        await ask("quick")
        assert not slow.done()
        gate.set()
        await slow
        await kept.close()

    asyncio.run(run())


def test_a_load_that_fails_is_tried_again() -> None:
    errors: list[Exception] = [Damaged("x"), MemoryError()]

    def load(encoder: Any) -> Loaded:
        if errors:
            raise errors.pop(0)
        return loaded()

    async def run() -> None:
        kept = registry(load)
        for kind, damaged in ((Damaged, ["a@1"]), (MemoryError, ["a@1"])):
            with pytest.raises(kind):
                async with kept.use(Stub("a")):  # type: ignore[arg-type]
                    pass
            assert list(kept.damaged.values()) == damaged
        async with kept.use(Stub("a")):  # type: ignore[arg-type]
            assert kept.damaged == {}
        await kept.close()

    asyncio.run(run())


def test_a_decoder_that_dies_costs_nobody_else(image_file: Any, pictures: Any) -> None:
    files = [image_file(picture) for picture in pictures]

    async def run() -> None:
        pool = DecodePool(2, timeout_s=30, bound=Bound(1000))
        for _ in range(2):
            answer = await pool.decode(files, WANTED)
            np.testing.assert_array_equal(answer.pixels[..., 0], pictures)
            assert answer.bad == {}
            for slot in pool._slots:
                if slot._process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        slot._process.kill()
        await pool.close()

    asyncio.run(run())


def test_an_image_that_hangs_its_decoder_fails_alone(image_file: Any, pictures: Any) -> None:
    good = image_file(pictures[0])

    async def run() -> None:
        pool = DecodePool(1, timeout_s=30, bound=Bound(1000))
        ask = pool._slots[0].ask

        async def hanging(images: Any, wanted: Wanted) -> Any:
            if b"hang" in images:
                await asyncio.sleep(60)
            return await ask(images, wanted)

        pool._slots[0].ask = hanging  # type: ignore[method-assign]
        await pool.decode([good], WANTED)
        pool._timeout_s = 0.5
        answer = await pool.decode([good, b"hang", good], WANTED)
        assert list(answer.bad) == [1]
        assert answer.bad[1][0] == "bad_image"
        np.testing.assert_array_equal(answer.pixels[2, ..., 0], pictures[0])
        await pool.close()

    asyncio.run(run())


def test_requests_that_wait_ride_together_and_get_their_own_pixels(image_file: Any, pictures: Any) -> None:
    async def run() -> None:
        pool = DecodePool(1, timeout_s=30, bound=Bound(1000))
        await pool.warm()
        ask, sizes = pool._slots[0].ask, []

        async def counted(images: Any, wanted: Wanted) -> Any:
            sizes.append(len(images))
            return await ask(images, wanted)

        pool._slots[0].ask = counted  # type: ignore[method-assign]
        requests = [[image_file(picture), b"no image"] for picture in pictures[:20]]
        requests[7] = []
        asked = asyncio.gather(*(pool.decode(files, WANTED) for files in requests))
        await asyncio.sleep(0)
        assert pool.waiting == 36
        answers = await asked
        for i, (answer, picture) in enumerate(zip(answers, pictures, strict=False)):
            if i == 7:
                assert len(answer.pixels) == 0
            else:
                np.testing.assert_array_equal(answer.pixels[0, ..., 0], picture)
                assert list(answer.bad) == [1]
        assert sizes == [2, 36]
        assert pool.waiting == 0
        await pool.close()

    asyncio.run(run())


@pytest.mark.parametrize("harm", ["crash", "hang"])
def test_who_rides_with_an_image_that_costs_the_process_loses_nothing(
    image_file: Any, pictures: Any, harm: str
) -> None:
    async def run() -> None:
        pool = DecodePool(2, timeout_s=30, bound=Bound(1000))
        await pool.warm()

        def harmed(slot: Any) -> Any:
            ask = slot.ask

            async def asked(images: Any, wanted: Wanted) -> Any:
                if b"harm" in images:
                    if harm == "crash":
                        slot._process.kill()
                    else:
                        await asyncio.sleep(60)
                return await ask(images, wanted)

            return asked

        for slot in pool._slots:
            slot.ask = harmed(slot)
        requests = [[image_file(picture)] for picture in pictures[:12]]
        requests[5] = [b"harm"]
        pool._timeout_s = 5.0 if harm == "crash" else 1.0
        answers = await asyncio.gather(*(pool.decode(files, WANTED) for files in requests))
        for i, (answer, picture) in enumerate(zip(answers, pictures, strict=False)):
            assert bool(answer.bad) == (i == 5)
            if i != 5:
                np.testing.assert_array_equal(answer.pixels[0, ..., 0], picture)
        assert pool.waiting == len(pool._waiting) == 0
        await pool.close()

    asyncio.run(run())


def test_a_caller_that_leaves_does_not_confuse_the_next(image_file: Any, pictures: Any) -> None:
    async def run() -> None:
        pool = DecodePool(1, timeout_s=30, bound=Bound(1000))
        await pool.warm()
        for picture in pictures[:20]:
            task = asyncio.create_task(pool.decode([image_file(pictures[39])] * 50, WANTED))
            await asyncio.sleep(0)
            task.cancel()
            answer = await pool.decode([image_file(picture)], WANTED)
            np.testing.assert_array_equal(answer.pixels[0, ..., 0], picture)
        await pool.close()

    asyncio.run(run())


def test_a_decoder_leaves_with_its_server(image_file: Any, pictures: Any) -> None:
    async def run() -> int:
        pool = DecodePool(1, timeout_s=30, bound=Bound(1000))
        process = await pool._slots[0].start()
        assert process.stdin is not None
        process.stdin.close()
        return await process.wait()

    assert asyncio.run(run()) == 0


def test_chunks_are_bounded_in_number_and_bytes() -> None:
    files = [b"x" * (3 << 20)] * 3 + [b"y"] * 100
    pieces = chunked(files)
    assert [image for piece in pieces for image in piece] == files
    assert all(len(piece) <= 64 for piece in pieces)
    assert len(pieces[0]) == 2
    assert chunked([]) == []
    assert [len(piece) for piece in chunked([b"y"] * 12, 5)] == [5, 5, 2]
    assert [Wanted(size=size, channels=3, max_pixels=1).most for size in (8, 224, 512, 4096)] == [
        64,
        27,
        5,
        1,
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def registered(store: Store, add_encoder: Any) -> Any:
    class Holder:
        pass

    holder = Holder()
    holder.store = store  # type: ignore[attr-defined]
    return add_encoder(holder, "mine")


def run_serving(store: Store, tmp_path: Path, work: Callable[[Serving], Any], **settings: Any) -> Any:
    async def run() -> Any:
        serving = Serving(Settings(data_dir=tmp_path, **settings), store.blobs, scratch=tmp_path)
        try:
            return await work(serving)
        finally:
            await serving.close()

    return asyncio.run(run())


def test_serving_without_http(store: Store, registered: Any, tmp_path: Path, pictures: Any) -> None:
    async def work(serving: Serving) -> None:
        await serving.probe()
        done = await serving.embed(registered, pictures)
        assert done.rows.shape == (40, 2)
        assert done.encoder == "mine@1"
        await serving.probe()
        with pytest.raises(BadImagesFound):
            await serving.embed(registered, [b"", None])
        kept = await serving.embed(registered, [b"", None], keep_going=True)
        assert sorted(kept.bad) == [0, 1]
        assert np.isnan(kept.rows).all()
        await serving.registry.close()
        await serving._dummy.close()
        with pytest.raises(BatcherClosed):
            await serving._dummy.submit(dummy.probe())

    run_serving(store, tmp_path, work)
    assert not list(tmp_path.glob("encoder-*"))


def test_files_that_wait_to_be_decoded_are_bounded(
    store: Store, registered: Any, tmp_path: Path, pictures: Any, image_file: Any
) -> None:
    """A request that finds the queue empty is taken however large it is; arrays are not decoded and never wait."""
    files = [image_file(picture) for picture in pictures]

    async def work(serving: Serving) -> None:
        serving.decoder.waiting = 1
        with pytest.raises(QueueFull):
            await serving.embed(registered, files)
        assert (await serving.embed(registered, pictures)).rows.shape == (40, 2)
        assert (await serving.embed(registered, files[:4])).rows.shape == (4, 2)
        serving.decoder.waiting = 0
        assert (await serving.embed(registered, files)).rows.shape == (40, 2)
        assert serving.decoder.waiting == 0

    run_serving(store, tmp_path, work, serve_queue_images=5)


def test_what_waits_to_be_decoded_is_bounded_in_seconds_too(
    store: Store, registered: Any, tmp_path: Path, pictures: Any, image_file: Any
) -> None:
    files = [image_file(picture) for picture in pictures]

    async def work(serving: Serving) -> None:
        await serving.embed(registered, files)
        serving.decoder.waiting = 1000
        with pytest.raises(QueueFull):
            await serving.embed(registered, files[:1])

    run_serving(store, tmp_path, work, serve_queue_s=1e-6)


def test_a_request_in_steps_is_the_same_request(
    store: Store, registered: Any, tmp_path: Path, pictures: Any, image_file: Any, monkeypatch: Any
) -> None:
    """Seven images a step; bad ones keep their number, and every one is named however early the first is."""
    files: list[bytes | None] = [image_file(picture) for picture in pictures]
    files[3], files[20], files[39] = b"", None, b"x"
    good = [i for i in range(40) if i not in (3, 20, 39)]

    async def work(serving: Serving) -> None:
        whole = await serving.embed(registered, pictures)
        monkeypatch.setattr("service.inference.serving.STEP_BYTES", 7 * SIZE * SIZE)
        for given in (pictures, pictures[..., None], [image_file(picture) for picture in pictures]):
            steps = await serving.embed(registered, given)
            np.testing.assert_allclose(steps.rows, whole.rows, atol=1e-6)
            assert steps.batch == 7
        kept = await serving.embed(registered, files, keep_going=True)
        assert sorted(kept.bad) == sorted(kept.missing) == [3, 20, 39]
        np.testing.assert_allclose(kept.rows[good], whole.rows[good], atol=1e-6)
        with pytest.raises(BadImagesFound) as refused:
            await serving.embed(registered, files)
        assert sorted(refused.value.bad) == [3, 20, 39]

    run_serving(store, tmp_path, work)


@pytest.mark.parametrize("kind", ["array", "files"])
def test_large_images_of_an_encoder_are_prepared_in_bounded_memory(
    store: Store, tmp_path: Path, add_encoder: Any, image_file: Any, monkeypatch: Any, kind: str
) -> None:
    """Pictures of one pixel become 256 KiB each: 50 MiB at once, if all were prepared before the first leaves."""
    n, step_bytes = 200, 2 << 20
    monkeypatch.setattr("service.inference.serving.STEP_BYTES", step_bytes)
    pixels = np.arange(n, dtype=np.uint8).reshape(n, 1, 1)
    given = pixels if kind == "array" else [image_file(pixel) for pixel in pixels]
    encoder = add_encoder(SimpleNamespace(store=store), "large", image_size=512)
    first = Loaded(lambda images: images[:, 0, 0, [0, 0]], 2, 512, 1, 10, ThreadPoolExecutor(1))

    async def work(serving: Serving) -> None:
        serving.registry._load = lambda _: first
        with serving.budget.admitted(0) as other, serving.budget.admitted(0) as room:
            tracemalloc.start()
            try:
                done = await serving.embed(encoder, given, room=room)
                assert tracemalloc.get_traced_memory()[1] < 8 * step_bytes
            finally:
                tracemalloc.stop()
            np.testing.assert_array_equal(done.rows[:, 0], pixels[:, 0, 0])
            other.take(serving.budget.limit)
            with pytest.raises(TooManyBytes):
                await serving.embed(encoder, given, room=room)
            assert room.held == 0

    run_serving(store, tmp_path, work)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "report.json"])
def test_one_flipped_byte_is_noticed_at_the_next_load(
    store: Store, registered: Any, tmp_path: Path, pictures: Any, name: str
) -> None:
    digest = registered.files[name].digest.removeprefix("sha256:")
    path = next((tmp_path / "blobs").rglob(digest))
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    async def work(serving: Serving) -> None:
        with pytest.raises(Damaged):
            await serving.embed(registered, pictures)
        assert list(serving.registry.damaged.values()) == ["mine@1"]
        await serving.probe()

    run_serving(store, tmp_path, work)


def test_a_stream_of_draws_is_the_same_in_pages_of_any_height() -> None:
    from nidim.priors import GaussianPrior

    prior = GaussianPrior(3)
    whole = prior.sample(100, seed=1, offset=5, temperature=0.7)
    for values in (1, 7, 30, 10_000):
        parts = list(engine.pages(prior, n=100, seed=1, offset=5, temperature=0.7, values=values))
        np.testing.assert_array_equal(np.concatenate(parts), whole)
