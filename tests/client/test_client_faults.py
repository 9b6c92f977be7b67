"""What the client does when the way to the server breaks: a real proxy cuts it, real servers die and refuse."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from nidim.client import Busy, Client, Event, RetryPolicy, ServerUnreachable
from service.store import jobs
from tests.chaos.proxy import Proxy
from tests.waiting import wait_for

SPEC = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2}}


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    """A way to the shared server that can break."""
    way = Proxy(("127.0.0.1", httpx.URL(server.url).port))
    yield way
    way.close()


def through(proxy: Proxy, **policy: Any) -> Client:
    """A client behind ``proxy``."""
    values = {"total_s": 30, "base_s": 0.02, "most_s": 0.2, **policy}
    return Client(f"http://127.0.0.1:{proxy.port}", retry=RetryPolicy(**values))


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


def test_429_waits_as_long_as_it_is_told(guarded: Any) -> None:
    """Two streams take all that the key may have in flight; a third request waits until one is closed."""
    answers: list[tuple[float, int, float]] = []

    def note(answer: httpx.Response) -> None:
        answers.append((time.monotonic(), answer.status_code, float(answer.headers.get("retry-after", 0))))

    with (
        Client(guarded.url, key=guarded.key, retry=RetryPolicy(total_s=60, random=lambda: 0.0)) as client,
        Client(guarded.url, key=guarded.key, retry=RetryPolicy(total_s=0)) as hasty,
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
        assert wait_for(lambda: len(answers) >= 1, 20)
        streams[0].close()
        waiting.join(60)
        streams[1].close()
    assert [status for _, status, _ in answers[:-1]] == [429] * (len(answers) - 1)
    assert answers[-1][1] == 200
    for (at_s, _, asked_s), (next_s, _, _) in itertools.pairwise(answers):
        assert asked_s >= 1
        assert next_s - at_s >= asked_s


def test_events_outlive_their_server(start_server: Any, tmp_path: Path, lease: Any) -> None:
    """The first server is killed in mid-stream, another one on the same data takes its place."""
    seen: list[Event] = []

    def add(at: Any, taken: jobs.Lease, steps: range) -> None:
        for step in steps:
            with at.store.begin() as tx:
                jobs.add_events(tx, taken, [("progress", {"step": step}), ("log", {"message": "a\u2028\nb"})])

    with start_server(tmp_path) as first:
        way = Proxy(("127.0.0.1", httpx.URL(first.url).port))
        with through(way) as client:
            job = client.train(SPEC, encoder="long")
            taken = lease(first, job.id)
            stream = job.events()
            add(first, taken, range(20))
            seen.extend(next(stream) for _ in range(10))
            first.process.kill()
            first.process.wait()
            way.mode = "away"  # the test holds the listening socket open
            reader = threading.Thread(target=lambda: seen.extend(stream))
            reader.start()
            with start_server(tmp_path) as second:
                add(second, taken, range(20, 40))
                way.target = ("127.0.0.1", httpx.URL(second.url).port)
                way.mode = "pass"
                add(second, taken, range(40, 50))
                with second.store.begin() as tx:
                    jobs.fail(tx, taken, "training_diverged", "enough")
                reader.join(60)
                listed = second.client.get(
                    f"/v1/jobs/{job.id}/events", headers={"accept": "application/json"}
                )
        way.close()
    assert [event.as_json()["id"] for event in seen] == [item["id"] for item in listed.json()["items"]]
    assert [event.data["step"] for event in seen if event.type == "progress"] == list(range(50))
    assert seen[-1].data["state"] == "failed"
