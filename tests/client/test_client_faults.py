"""What the client does when the way to the server breaks: a real proxy cuts it, real servers die and refuse."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from nidim.client import Busy, Client, Event, RetryPolicy, ServerUnreachable, Unauthorized
from service.store import events, jobs
from tests.chaos.proxy import Proxy
from tests.waiting import wait_for

KEY = "nk_" + "k" * 40
GUARDED = {"bootstrap_key": KEY, "key_concurrent_requests": 2}
SPEC = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2}}


@pytest.fixture(scope="module")
def guarded(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that asks for the key and lets it have two requests at a time; the last test here kills it."""
    with start_server(tmp_path_factory.mktemp("guarded"), **GUARDED) as running:
        yield running


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    """A way to the shared server that can break."""
    way = Proxy(("127.0.0.1", httpx.URL(server.url).port))
    yield way
    way.close()


def through(proxy: Proxy, *, key: str | None = None, **policy: Any) -> Client:
    """A client behind ``proxy``."""
    values = {"total_s": 120, "base_s": 0.02, "most_s": 0.2, **policy}
    return Client(f"http://127.0.0.1:{proxy.port}", key=key, retry=RetryPolicy(**values))


class Heals:
    """A source of jitter: the proxy works again from the first wait on. Counts what it did before."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.touched = proxy, 0

    def __call__(self) -> float:
        self.touched += self.proxy.touched
        self.proxy.mode = "pass"
        return 0.0


def test_a_creation_whose_answer_was_lost_happens_once(
    server: Any, client: Client, proxy: Proxy, npz: Path
) -> None:
    heals = Heals(proxy)
    with through(proxy, random=heals) as cut:
        proxy.mode = "lost"
        job = cut.train(SPEC, encoder="once")
        assert heals.touched == 1
        assert [other.id for other in client.jobs() if other.info.encoder == "once"] == [job.id]
        proxy.mode = "lost"
        moved: list[int] = []
        found = cut.datasets.upload("once", npz, moved=lambda done, _total: moved.append(done))
        assert (found.state, found.items) == ("ready", 40)
        size = npz.stat().st_size
        assert moved.count(size) == 2
        assert [dataset.name for dataset in client.datasets.list()].count("once") == 1


def test_what_may_not_be_repeated_is_not(server: Any, client: Client, proxy: Proxy, add_encoder: Any) -> None:
    doomed = add_encoder(server, "doomed")
    with through(proxy, random=Heals(proxy)) as cut:
        encoder = cut.encoder("doomed")
        proxy.mode = "lost"
        with pytest.raises(ServerUnreachable):
            encoder.delete()
        assert proxy.mode == "lost"
        assert doomed.id not in [other.id for other in client.encoders(name="doomed")]


@pytest.mark.usefixtures("encoder")
def test_embedding_goes_on_after_a_cut(client: Client, proxy: Proxy, pictures: Any) -> None:
    with through(proxy, random=Heals(proxy)) as cut:
        encoder = cut.encoder("gauss")
        for mode in ("lost", "away"):
            proxy.mode = mode
            np.testing.assert_allclose(
                encoder.embed(pictures), client.encoder("gauss").embed(pictures), atol=1e-5
            )
            assert proxy.mode == "pass"


def test_retries_end_after_their_time() -> None:
    began_s = time.monotonic()
    with (
        Client("http://127.0.0.1:9", retry=RetryPolicy(total_s=0.5, base_s=0.1)) as nobody,
        pytest.raises(ServerUnreachable),
    ):
        nobody.encoder("gauss")
    assert time.monotonic() - began_s < 20


def test_a_key_is_needed_where_there_are_keys(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_URL", guarded.url)
    with Client() as nobody, pytest.raises(Unauthorized, match="key"):
        nobody.encoder("gauss")
    monkeypatch.setenv("NIDIM_KEY", KEY)
    with Client() as somebody:
        assert somebody.url.rstrip("/") == guarded.url
        assert list(somebody.encoders()) == []


def test_429_waits_as_long_as_it_is_told(guarded: Any) -> None:
    """Two streams take all that the key may have in flight; a third request waits until one is closed."""
    answers: list[tuple[float, int, float]] = []

    def note(answer: httpx.Response) -> None:
        answers.append((time.monotonic(), answer.status_code, float(answer.headers.get("retry-after", 0))))

    with (
        Client(guarded.url, key=KEY, retry=RetryPolicy(total_s=60, random=lambda: 0.0)) as client,
        Client(guarded.url, key=KEY, retry=RetryPolicy(total_s=0)) as hasty,
    ):
        job = client.train(SPEC, encoder="watched")
        streams = [hasty.job(job.id).events() for _ in range(2)]
        for stream in streams:
            assert next(stream).type == "state"
        client._calls.transport._http.event_hooks["response"].append(note)  # type: ignore[attr-defined]
        with pytest.raises(Busy) as found:
            hasty.job(job.id)
        assert found.value.retry_after_s >= 1
        waiting = threading.Thread(target=job.refresh)
        waiting.start()
        assert wait_for(lambda: len(answers) >= 1, 60)
        streams[0].close()
        waiting.join(60)
        streams[1].close()
    assert [status for _, status, _ in answers[:-1]] == [429] * (len(answers) - 1)
    assert answers[-1][1] == 200
    for (at_s, _, asked_s), (next_s, _, _) in itertools.pairwise(answers):
        assert asked_s >= 1
        assert next_s - at_s >= asked_s


def test_events_outlive_their_server(guarded: Any, start_server: Any, lease: Any) -> None:
    """The server is killed in mid-stream, another one on the same data takes its place."""
    seen: list[Event] = []

    def add(at: Any, taken: jobs.Lease, steps: range) -> None:
        for step in steps:
            with at.store.begin() as tx:
                jobs.add_events(tx, taken, [("progress", {"step": step}), ("log", {"message": "a\u2028\nb"})])

    way = Proxy(("127.0.0.1", httpx.URL(guarded.url).port))
    with contextlib.closing(way), through(way, key=KEY) as client:
        job = client.train(SPEC, encoder="long")
        taken = lease(guarded, job.id)
        stream = job.events()
        add(guarded, taken, range(20))
        seen.extend(next(stream) for _ in range(10))
        guarded.process.kill()
        guarded.process.wait()
        way.mode = "away"  # the test holds the listening socket open
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        with start_server(guarded.settings.data_dir, **GUARDED) as second:
            add(second, taken, range(20, 40))
            way.target = ("127.0.0.1", httpx.URL(second.url).port)
            way.mode = "pass"
            add(second, taken, range(40, 50))
            with second.store.begin() as tx:
                jobs.fail(tx, taken, "training_diverged", "enough")
            reader.join(60)
            with second.store.session() as tx:
                stored = [event.id for event in events.list_after(tx, job.id)]
    assert [event.id for event in seen] == stored
    assert [event.data["step"] for event in seen if event.type == "progress"] == list(range(50))
    assert seen[-1].data["state"] == "failed"
