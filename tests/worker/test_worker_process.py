"""The worker as a process, with a real Redis: what it hears, what it ignores, how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from service import embedded_redis, parts
from service.queue import QUEUE, TASK, publish
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store
from worker.app import make_app

HERE = Path(__file__).parent


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Broker:
    """A Redis that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        server = embedded_redis.executable()
        assert server is not None
        self.socket = embedded_redis.socket_dir(directory) / "redis.sock"
        self.part = parts.Part(embedded_redis.plan(server, directory=directory, socket=self.socket))
        self.url = embedded_redis.url(self.socket)
        self.start()

    def start(self) -> None:
        self.part.start()
        assert wait_for(lambda: embedded_redis.answers(self.socket))

    def waiting(self) -> int:
        with redis_client.Redis(unix_socket_path=str(self.socket)) as client:
            return sum(client.llen(name) for name in client.keys(f"{QUEUE}*") if client.type(name) == b"list")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = Broker(tmp_path)
    yield running
    parts.stop([running.part])
    running.socket.unlink(missing_ok=True)
    running.socket.parent.rmdir()


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        broker_url=broker.url,
        lease_s=2.0,
        heartbeat_s=0.4,
        cancel_grace_s=5.0,
        reaper_every_s=0.2,
    )


class Workers:
    """Starts workers and makes sure that none is left."""

    def __init__(self, settings: Settings, log: Path) -> None:
        names = ("data_dir", "broker_url", "lease_s", "heartbeat_s", "cancel_grace_s")
        self.env = {**os.environ, **{f"NIDIM_{name.upper()}": str(getattr(settings, name)) for name in names}}
        self.log = log
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, play: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(HERE / "play_worker.py"), play]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(settings, tmp_path / "workers.log")
    yield started
    started.close()


def test_it_hears_its_task_and_ignores_everything_else(
    bench: Any, settings: Settings, broker: Broker, workers: Workers
) -> None:
    app = make_app(settings)
    with app.connection_for_write() as connection:
        for name, arguments in [
            (TASK, {"job_id": "job_" + "0" * 26}),
            (TASK, {"job_id": {"$ne": None}}),
            (TASK, {"job_id": "../../x", "command": "rm"}),
            (TASK, {}),
            ("os.system", {"command": "true"}),
        ]:
            app.send_task(name, kwargs=arguments, queue=QUEUE, connection=connection)
        app.send_task(TASK, args=[["x"] * 3, 4], queue=QUEUE, connection=connection)
        with connection.SimpleQueue(QUEUE) as queue:
            queue.put({"job_id": "x"}, serializer="json")
            queue.put(
                b"cbuiltins\neval\n.",
                content_type="application/x-python-serialize",
                content_encoding="binary",
            )
    job = bench.job()
    assert publish(settings.broker_url, job.id, "normal")
    workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")
    assert wait_for(lambda: broker.waiting() == 0)
    assert workers.started[0].poll() is None


def test_urgent_jobs_come_first(bench: Any, settings: Settings, workers: Workers) -> None:
    waiting = {name: bench.job(priority=name, encoder=name) for name in ("low", "normal", "high")}
    for name, job in waiting.items():
        publish(settings.broker_url, job.id, name)
    workers.start("succeed")
    assert wait_for(lambda: all(bench.read(job).state == "succeeded" for job in waiting.values()))
    order = sorted(waiting, key=lambda name: bench.read(waiting[name]).started_at)
    assert order == ["high", "normal", "low"]


def test_sigterm_hands_the_job_back_with_its_checkpoint(
    bench: Any, settings: Settings, broker: Broker, workers: Workers
) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("polite")
    bench.wait_until_ready(job)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    released = bench.read(job)
    assert (released.state, released.checkpoint_step) == ("queued", 9)
    assert broker.waiting() == 1
    workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")


def test_an_idle_worker_leaves_on_sigterm(bench: Any, settings: Settings, workers: Workers) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_killed_worker_costs_the_work_since_its_checkpoint(
    bench: Any, store: Store, settings: Settings, workers: Workers
) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("checkpoint_and_wait")
    assert wait_for(lambda: bench.read(job).checkpoint_step == 5)
    worker.kill()
    worker.wait()
    workers.start("succeed")
    reaper = Reaper(store, lambda job_id, priority: publish(settings.broker_url, job_id, priority), settings)

    def ended() -> bool:
        reaper.run_once()
        return bench.read(job).state == "succeeded"

    assert wait_for(ended)
    assert bench.read(job).attempt == 2
    assert [event["step"] for event in bench.events(job, "checkpoint")] == [5, 3]


def test_it_hears_again_after_redis_died(
    bench: Any, settings: Settings, broker: Broker, workers: Workers
) -> None:
    first, second = bench.job(encoder="first"), bench.job(encoder="second")
    publish(settings.broker_url, first.id, "normal")
    workers.start("succeed")
    assert wait_for(lambda: bench.read(first).state == "succeeded")
    broker.part.kill()
    assert wait_for(broker.part.gone)
    assert not publish(settings.broker_url, second.id, "normal")
    broker.start()
    assert publish(settings.broker_url, second.id, "normal")
    assert wait_for(lambda: bench.read(second).state == "succeeded", 40)


@pytest.mark.parametrize("back", ["before", "after"])
def test_redis_that_dies_under_a_training_neither_harms_it_nor_deafens_the_worker(
    bench: Any, settings: Settings, broker: Broker, workers: Workers, back: str
) -> None:
    """``back``: whether Redis is there again when the training ends and its message is acknowledged."""
    job, after = bench.job(), bench.job(encoder="after")
    publish(settings.broker_url, job.id, "normal")
    workers.start("slow")
    bench.wait_until_ready(job)
    broker.part.kill()
    assert wait_for(broker.part.gone)
    if back == "before":
        broker.start()
    assert wait_for(lambda: bench.read(job).state == "succeeded")
    if back == "after":
        assert wait_for(lambda: b"Couldn't ack" in workers.log.read_bytes())
        broker.start()
    publish(settings.broker_url, after.id, "normal")
    assert wait_for(lambda: bench.read(after).state == "succeeded", 40)
    assert bench.read(job).attempt == 1


def test_a_worker_needs_a_broker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NIDIM_BROKER_URL"):
        make_app(Settings(data_dir=tmp_path))


def test_the_worker_imports_no_torch() -> None:
    code = "import sys, json, worker.__main__; print(json.dumps(sorted(sys.modules)))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(listed.stdout))
    assert "celery" in modules
    assert not modules & {"torch", "torchvision", "sklearn", "nidim.train"}
