"""Workers under a broker that is paused, or behind a network that swallows what is sent: they hear the next job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.queue import publish
from service.settings import Settings
from tests.chaos.proxy import Proxy
from tests.waiting import wait_for

pytestmark = pytest.mark.embedded


@pytest.fixture
def settings(broker_settings: Settings) -> Settings:
    return broker_settings


@pytest.fixture
def proxy(broker: Any) -> Iterator[Proxy]:
    between = Proxy(broker.socket)
    yield between
    between.close()


def succeeded(bench: Any, job: Any) -> bool:
    return bool(bench.read(job).state == "succeeded")


@pytest.mark.parametrize("moment", ["while it waits for work", "while a training ends"])
def test_a_paused_redis_deafens_no_worker(
    bench: Any, settings: Settings, broker: Any, workers: Any, moment: str
) -> None:
    first, second = bench.job(encoder="first"), bench.job(encoder="second")
    publish(settings.broker_url, first.id, "normal")
    worker = workers.start("slow")
    bench.wait_until_ready(first)
    if moment == "while it waits for work":
        assert wait_for(lambda: succeeded(bench, first))
    os.kill(broker.part.pid, signal.SIGSTOP)
    try:
        assert wait_for(lambda: succeeded(bench, first))
        assert not publish(settings.broker_url, second.id, "normal")
        time.sleep(3)
    finally:
        os.kill(broker.part.pid, signal.SIGCONT)
    assert wait_for(lambda: publish(settings.broker_url, second.id, "normal"))
    assert wait_for(lambda: succeeded(bench, second)), workers.log.read_text()[-3000:]
    assert bench.read(second).attempt == 1
    assert worker.poll() is None


def test_a_connection_that_died_without_a_word_is_given_up(
    bench: Any, settings: Settings, workers: Any, proxy: Proxy
) -> None:
    """What was sent into the hole never comes back, not even a reset; only silence tells."""
    workers.env["NIDIM_BROKER_URL"] = proxy.url
    first, second = bench.job(encoder="first"), bench.job(encoder="second")
    publish(settings.broker_url, first.id, "normal")
    workers.start("succeed")
    assert wait_for(lambda: succeeded(bench, first))
    time.sleep(1)
    proxy.mode = "hole"
    time.sleep(2)
    proxy.mode = "pass"
    publish(settings.broker_url, second.id, "normal")
    assert wait_for(lambda: succeeded(bench, second)), workers.log.read_text()[-3000:]


def test_a_slow_broker_is_only_slow(bench: Any, settings: Settings, workers: Any, proxy: Proxy) -> None:
    workers.env["NIDIM_BROKER_URL"] = proxy.url
    proxy.delay_s, proxy.mode = 0.3, "slow"
    job = bench.job()
    publish(settings.broker_url, job.id, "normal")
    workers.start("succeed")
    assert wait_for(lambda: succeeded(bench, job)), workers.log.read_text()[-3000:]
