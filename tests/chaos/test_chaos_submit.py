"""Submitting while the broker is away: refused, paused, or swallowed by the network. 202 in under a second."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import embedded_redis
from service.parts import Part, stop
from tests.chaos.load import spec
from tests.chaos.processes import wait_for
from tests.chaos.proxy import Proxy
from tests.service.api.conftest import serving

pytestmark = pytest.mark.slow

JOBS = 12


class Broker:
    """A real Redis behind a proxy."""

    def __init__(self, directory: Path) -> None:
        server = embedded_redis.executable()
        assert server is not None
        directory.mkdir()
        self.socket = embedded_redis.socket_dir(directory) / "redis.sock"
        self.part = Part(embedded_redis.plan(server, directory=directory, socket=self.socket))
        self.part.start()
        wait_for(lambda: embedded_redis.answers(self.socket), "Redis starts")
        self.proxy = Proxy(self.socket)

    def close(self) -> None:
        if self.part.pid and not self.part.gone():
            os.kill(self.part.pid, signal.SIGCONT)
        stop([self.part])
        self.proxy.close()
        self.socket.unlink(missing_ok=True)
        self.socket.parent.rmdir()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = Broker(tmp_path / "redis")
    yield running
    running.close()


def take_away(broker: Broker, how: str) -> None:
    if how == "refused":
        broker.part.kill()
    elif how == "paused":
        os.kill(broker.part.pid or 0, signal.SIGSTOP)
    else:
        broker.proxy.mode = "hole"


@pytest.mark.parametrize("how", ["refused", "paused", "swallowed"])
def test_a_job_is_accepted_at_once_without_a_broker(tmp_path: Path, broker: Broker, how: str) -> None:
    with serving(tmp_path / "data", broker_url=broker.proxy.url) as server:
        take_away(broker, how)
        took, ids = [], set()
        for number in range(JOBS):
            began = time.monotonic()
            answer = submit(server.client, number)
            took.append(time.monotonic() - began)
            assert answer.status_code == 202, answer.text
            ids.add(answer.json()["id"])
        assert len(ids) == JOBS
        # One second is promised for each; on a machine that is busy with other things, for most of them.
        assert sorted(took)[JOBS // 2] < 1.0, took
        assert "broker" in server.client.get("/readyz").json()["degraded"]
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        # Twelve times two tries of a second would be the time that it must not wait for.
        assert time.monotonic() - began < 12


def submit(client: httpx.Client, number: int) -> Any:
    return client.post("/v1/jobs", json={"spec": spec(number + 1, 1), "encoder": "later"})
