"""A job that kills whatever works on it, and deploys that interrupt one: the first ends, the second goes on."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import pytest

from service.queue import publish
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store
from tests.waiting import wait_for


@pytest.fixture
def settings(broker_settings: Settings) -> Settings:
    return broker_settings


def test_a_poison_job_ends_after_three_attempts_and_blocks_no_one(
    bench: Any, store: Store, settings: Settings, workers: Any
) -> None:
    poison = bench.job(spec={"dataset": "digits", "poison": True}, encoder="poison")
    others = [bench.job(encoder=f"other-{number}") for number in range(3)]
    for job in (poison, *others):
        publish(settings.broker_url, job.id, "normal")
    worker = workers.start("poison_or_succeed")
    reaper = Reaper(store, partial(publish, settings.broker_url), settings)

    def all_ended() -> bool:
        reaper.run_once()
        return all(bench.read(job).is_terminal for job in (poison, *others))

    assert wait_for(all_ended)
    ended = bench.read(poison)
    assert (ended.state, ended.attempt) == ("failed", 3)
    assert "3 attempts in a row" in ended.failure["message"]
    assert all(bench.read(job).state == "succeeded" for job in others)
    assert max(bench.read(job).finished_at for job in others) < ended.finished_at
    assert worker.poll() is None


def test_three_deploys_in_a_row_are_no_attempts(
    bench: Any, settings: Settings, broker: Any, workers: Any
) -> None:
    """Not even where there was no time for a checkpoint."""
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    for deploy in range(1, 5):
        worker = workers.start("polite_without_checkpoint")
        assert wait_for(lambda deploy=deploy: len(bench.events(job, "log")) == deploy)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        between = bench.read(job)
        assert (between.state, between.attempts_without_checkpoint) == ("queued", 0)
        assert broker.waiting() == 1
    workers.start("succeed")
    assert wait_for(lambda: bench.read(job).state == "succeeded")
    assert bench.read(job).attempt == 5
