"""The worker as a process, with a real Redis: what it hears, what it ignores, how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.queue import QUEUE, TASK, publish
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store
from tests.waiting import wait_for
from worker.app import make_app


@pytest.fixture
def settings(broker_settings: Settings) -> Settings:
    return broker_settings


@pytest.mark.embedded
def test_it_hears_its_task_and_ignores_everything_else(
    bench: Any, settings: Settings, broker: Any, workers: Any
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


@pytest.mark.embedded
def test_a_training_may_read_its_images_with_processes_of_its_own(
    bench: Any, settings: Settings, workers: Any
) -> None:
    """Celery's children are daemonic and may have none; a training is a plain process."""
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    workers.env["NIDIM_LEASE_S"] = "60"  # nobody would give it to another attempt
    workers.start("loader")
    assert wait_for(lambda: bench.read(job).state == "succeeded", 120), bench.events(job, "log")
    (read,) = bench.events(job, "log")
    assert read["rows"] == list(range(8))
    assert len(set(read["pids"])) == 2
    assert read["own"] not in read["pids"]


@pytest.mark.embedded
def test_urgent_jobs_come_first(bench: Any, settings: Settings, workers: Any) -> None:
    waiting = {name: bench.job(priority=name, encoder=name) for name in ("low", "normal", "high")}
    for name, job in waiting.items():
        publish(settings.broker_url, job.id, name)
    workers.start("succeed")
    assert wait_for(lambda: all(bench.read(job).state == "succeeded" for job in waiting.values()))
    order = sorted(waiting, key=lambda name: bench.read(waiting[name]).started_at)
    assert order == ["high", "normal", "low"]


def test_sigterm_hands_the_job_back_with_its_checkpoint(
    bench: Any, settings: Settings, broker: Any, workers: Any
) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("polite")
    bench.wait_until_ready(job)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    released = bench.read(job)
    assert (released.state, released.checkpoint_step) == ("queued", 9)
    assert broker.waiting() == 1
    workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")


@pytest.mark.embedded
def test_an_idle_worker_leaves_on_sigterm(bench: Any, settings: Settings, workers: Any) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_killed_worker_costs_the_work_since_its_checkpoint(
    bench: Any, store: Store, settings: Settings, workers: Any
) -> None:
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    worker = workers.start("checkpoint_and_wait")
    assert wait_for(lambda: bench.read(job).checkpoint_step == 5)
    worker.kill()
    worker.wait()
    workers.start("succeed", lease_s=60)  # on a busy machine a beat may be late
    reaper = Reaper(store, lambda job_id, priority: publish(settings.broker_url, job_id, priority), settings)

    def ended() -> bool:
        reaper.run_once()
        return bench.read(job).state == "succeeded"

    assert wait_for(ended)
    assert bench.read(job).attempt == 2
    assert [event["step"] for event in bench.events(job, "checkpoint")] == [5, 3]


@pytest.mark.embedded
def test_it_hears_again_after_redis_died(bench: Any, settings: Settings, broker: Any, workers: Any) -> None:
    first, second = bench.job(encoder="first"), bench.job(encoder="second")
    publish(settings.broker_url, first.id, "normal")
    workers.start("succeed")
    assert wait_for(lambda: bench.read(first).state == "succeeded")
    broker.part.kill()
    assert wait_for(broker.part.gone)
    assert not publish(settings.broker_url, second.id, "normal")
    broker.start()
    assert publish(settings.broker_url, second.id, "normal")
    assert wait_for(lambda: bench.read(second).state == "succeeded", 120)


@pytest.mark.embedded
@pytest.mark.parametrize("back", ["before", "after"])
def test_redis_that_dies_under_a_training_neither_harms_it_nor_deafens_the_worker(
    bench: Any, settings: Settings, broker: Any, workers: Any, back: str
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
    assert wait_for(lambda: bench.read(after).state == "succeeded", 120)
    assert bench.read(job).attempt == 1


@pytest.mark.embedded
def test_it_says_nothing_beside_its_log(settings: Settings, tmp_path: Path) -> None:
    """Celery's words on a signal included: who reads the log reads JSON."""
    given = {"data_dir": tmp_path, "broker_url": settings.broker_url, "log_format": "json"}
    env = {**os.environ, **{f"NIDIM_{name.upper()}": str(value) for name, value in given.items()}}
    said = tmp_path / "said"
    with said.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "worker"], env=env, stdout=file, stderr=file)
        try:
            assert wait_for(lambda: b"ready." in said.read_bytes(), 120)
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    assert {line["part"] for line in lines} == {"worker"}
    assert any("Warm shutdown" in line["message"] for line in lines)


def test_a_worker_needs_a_broker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NIDIM_BROKER_URL"):
        make_app(Settings(data_dir=tmp_path))


def test_the_worker_imports_no_torch() -> None:
    code = "import sys, json, worker.__main__; print(json.dumps(sorted(sys.modules)))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(listed.stdout))
    assert "celery" in modules
    assert not modules & {"torch", "torchvision", "sklearn", "nidim.train"}
