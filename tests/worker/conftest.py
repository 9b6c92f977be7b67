"""A real database, real blobs and real child processes; only the training is played."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.store import Store, events, jobs, open_store
from service.store.jobs import Job
from worker.runner import Outcome, run_job

SUBSTITUTE = Path(__file__).parent / "substitute_child.py"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path, lease_s=5.0, heartbeat_s=0.5, cancel_grace_s=1.0, checkpoint_every_s=1.0
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
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
        return run_job(
            job if isinstance(job, str) else job.id,
            store=self.store,
            settings=self.settings,
            owner="test",
            publish=self._publish,
            should_drain=should_drain,
            command=(sys.executable, str(SUBSTITUTE), play),
        )

    def _publish(self, job_id: str, priority: str) -> bool:
        self.published.append((job_id, priority))
        return True

    def start(self, job: Job, play: str, **options: Any) -> Running:
        return Running(lambda: self.run(job, play, **options))

    def wait_until_ready(self, job: Job) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for data in self.events(job, "log"):
                if data.get("message") == "ready":
                    return data
            time.sleep(0.02)
        raise AssertionError("the child did not get ready")

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
