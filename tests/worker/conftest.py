"""A real database, real blobs and real child processes; only the training is played."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from service import embedded_redis, parts
from service.queue import QUEUE
from service.settings import Settings
from service.store import Store, events, jobs, open_store
from service.store.jobs import Job
from tests import migrated
from tests.forking import Forked
from tests.waiting import wait_for
from tests.worker import play_worker
from worker.runner import Outcome, run_job
from worker.starting import Afresh, Start

SUBSTITUTE = Path(__file__).parent / "substitute_child.py"


@pytest.fixture
def settings(tmp_path: Path, place: dict[str, str]) -> Settings:
    return Settings(
        data_dir=tmp_path,
        lease_s=5.0,
        heartbeat_s=0.5,
        cancel_grace_s=1.0,
        checkpoint_every_s=1.0,
        **place,
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    if not settings.database_url:
        migrated.lay(settings.data_dir)
    opened = open_store(settings)
    yield opened
    opened.close()


class Bench:
    """Jobs and attempts at them, with what the tests want to know."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.published: list[tuple[str, str]] = []

    def job(self, **changes: Any) -> Job:
        given = {
            "kind": "train",
            "spec": {"dataset": "digits"},
            "resolved": {"dim": 2},
            "warnings": [],
            "encoder": "enc",
            "priority": "normal",
        }
        with self.store.begin() as tx:
            return jobs.create(tx, **{**given, **changes})

    def read(self, job: Job) -> Job:
        with self.store.session() as tx:
            found = jobs.get(tx, job.id)
        assert found is not None
        return found

    def events(self, job: Job, kind: str) -> list[dict[str, Any]]:
        with self.store.session() as tx:
            return [event.data for event in events.list_after(tx, job.id) if event.type == kind]

    def run(self, job: Job | str, play: str, *, should_drain: Callable[[], bool] = lambda: False) -> Outcome:
        start = Afresh((sys.executable, str(SUBSTITUTE), play))
        return self.attempt(job, start, should_drain=should_drain)

    def attempt(
        self, job: Job | str, start: Start, *, should_drain: Callable[[], bool] = lambda: False
    ) -> Outcome:
        return run_job(
            job if isinstance(job, str) else job.id,
            store=self.store,
            settings=self.settings,
            owner="test",
            publish=self._publish,
            should_drain=should_drain,
            start=start,
        )

    def _publish(self, job_id: str, priority: str) -> bool:
        self.published.append((job_id, priority))
        return True

    def start(self, job: Job, play: str, **options: Any) -> Running:
        return Running(lambda: self.run(job, play, **options))

    def start_real(self, job: Job, start: Start) -> Running:
        return Running(lambda: self.attempt(job, start))

    def wait_until_ready(self, job: Job) -> dict[str, Any]:
        def ready() -> Any:
            return next((data for data in self.events(job, "log") if data.get("message") == "ready"), None)

        found = wait_for(ready)
        assert found, "the child did not get ready"
        return dict(found)

    def scratch(self) -> list[Path]:
        return list((self.settings.data_dir / "scratch").glob("*"))


class Running:
    """An attempt in a thread."""

    def __init__(self, action: Callable[[], Outcome]) -> None:
        self.outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self.outcomes.append(action()))
        self._thread.start()

    def result(self, timeout: float = 20) -> Outcome:
        self._thread.join(timeout)
        assert self.outcomes, "the attempt did not end"
        return self.outcomes[0]


@pytest.fixture
def bench(store: Store, settings: Settings) -> Bench:
    return Bench(store, settings)


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


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"NIDIM_{name.upper()}": str(value) for name, value in settings.items()}


class Workers:
    """Starts workers and makes sure that none is left."""

    def __init__(self, settings: Settings, log: Path) -> None:
        names = (
            *("data_dir", "database_url", "blob_url", "broker_url"),
            *("lease_s", "heartbeat_s", "cancel_grace_s"),
        )
        self.env = {**os.environ, **_variables({name: getattr(settings, name) for name in names})}
        self.log = log
        self.started: list[Forked] = []

    def start(self, play: str, **settings: object) -> Forked:
        """One that plays ``play``, with these settings instead of those of all."""
        process = Forked(play_worker.main, play, env={**self.env, **_variables(settings)}, log=self.log)
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def workers(broker_settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(broker_settings, tmp_path / "workers.log")
    yield started
    started.close()


@pytest.fixture
def broker_settings(broker: Broker, tmp_path: Path, place: dict[str, str]) -> Settings:
    """Quick times, for a worker that is a process; a module that wants them says so."""
    return Settings(
        data_dir=tmp_path,
        broker_url=broker.url,
        lease_s=2.0,
        heartbeat_s=0.4,
        cancel_grace_s=5.0,
        reaper_every_s=0.2,
        **place,
    )
