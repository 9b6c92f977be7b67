"""Redis with a replica and Sentinel: the bell is where the master is, and rings on when another one becomes it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from service import embedded_redis
from service.broker import client
from service.health import ping
from service.queue import publish
from service.settings import Settings
from tests.waiting import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

NAME, PASSWORD, SENTINELS_OWN = "bell", "s@cret/1", "another"
WATCH = f"""\
bind 127.0.0.1
port {{port}}
requirepass {SENTINELS_OWN}
sentinel monitor {NAME} 127.0.0.1 {{master}} 1
sentinel auth-pass {NAME} {PASSWORD}
sentinel down-after-milliseconds {NAME} 3000
sentinel failover-timeout {NAME} 2000
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Watched:
    """A master, its replica, and a Sentinel, each with its password."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.processes = directory, list[subprocess.Popen[bytes]]()
        self.first, self.second, sentinel = (free_port() for _ in range(3))
        common = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--save", "", "--bind", "127.0.0.1")
        self.master = self._start("--port", str(self.first), *common)
        self._start("--port", str(self.second), "--replicaof", "127.0.0.1", str(self.first), *common)
        written = directory / "sentinel.conf"
        written.write_text(WATCH.format(port=sentinel, master=self.first))
        self._start(str(written), "--sentinel")
        self.url = (
            f"sentinel://:s%40cret%2F1@127.0.0.1:{sentinel};sentinel://127.0.0.1:1"
            f"?master={NAME}&sentinel_password={SENTINELS_OWN}"
        )

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self._directory / f"{len(self.processes)}.log").open("wb")
        command = [str(embedded_redis.executable()), *words]
        with log:
            self.processes.append(subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log))
        return self.processes[-1]

    def place(self) -> int:
        """The port of the master that the Sentinel knows now, once it answers as one; 0 until then."""
        with contextlib.suppress(redis.RedisError, OSError), client(self.url, timeout_s=0.5) as found:
            return int(found.info("server")["tcp_port"]) if found.role()[0] == b"master" else 0
        return 0

    def replicated(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError), client(self.url, timeout_s=0.5) as found:
            return int(found.info("replication")["connected_slaves"]) == 1
        return False

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "redis").mkdir()
    running = Watched(tmp_path / "redis")
    yield running
    running.close()


@pytest.fixture
def settings(broker_settings: Settings, watched: Watched) -> Settings:
    return broker_settings.model_copy(update={"broker_url": watched.url})


def test_the_bell_rings_on_after_a_failover(
    bench: Any, settings: Settings, watched: Watched, workers: Any
) -> None:
    assert Settings(broker_url=watched.url).broker_url == watched.url
    assert wait_for(lambda: watched.place() == watched.first and watched.replicated())
    workers.env["NIDIM_BROKER_URL"] = watched.url
    first, second = bench.job(encoder="first"), bench.job(encoder="second")
    assert publish(watched.url, first.id, "normal")
    worker = workers.start("succeed")
    assert wait_for(lambda: bench.read(first).state == "succeeded"), workers.log.read_text()[-3000:]
    watched.master.kill()
    assert not ping(watched.url), "nobody is master for a while"
    assert not publish(watched.url, second.id, "normal")
    assert wait_for(lambda: watched.place() == watched.second)
    assert wait_for(lambda: publish(watched.url, second.id, "normal"))
    assert wait_for(lambda: bench.read(second).state == "succeeded"), workers.log.read_text()[-3000:]
    assert worker.poll() is None
    assert ping(watched.url)
