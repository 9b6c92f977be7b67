"""``nidim up --api-processes 2``: one service to clients and to Prometheus, also while one of the two is killed."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.gauges import Moment
from service.inference import cores
from service.settings import Settings
from service.siblings import Siblings
from tests.chaos.processes import children, command_line
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; elsewhere parts have no leash"),
]
JOB = {"spec": {"dataset": "digits"}, "encoder": "once"}


class Two(NamedTuple):
    """A stack of two API processes and no worker."""

    url: str
    launcher: int
    data_dir: Path

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Over a connection of its own, which any of the processes may take."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            return client.request(method, path, **options)

    def apis(self) -> list[int]:
        return [pid for pid in children(self.launcher) if "service.serve" in command_line(pid)]

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = text_string_to_metric_families(self.ask("GET", "/metrics").text)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def listed(self) -> float:
        """How often jobs were listed, by /metrics."""
        labels = (("method", "GET"), ("route", "/v1/jobs"), ("status", "200"))
        return self.metrics().get(("nidim_requests_total", labels), 0.0)

    def resident(self) -> float:
        return self.metrics()["process_resident_memory_bytes", ()]


@pytest.fixture(scope="module")
def two(start_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    data_dir = tmp_path_factory.mktemp("two") / "data"
    with start_stack(data_dir, "--api-processes", "2", "--workers", "0") as (url, pid):
        found = Two(url, pid, data_dir)
        assert wait_for(lambda: len(list((data_dir / "counts").glob("moment_*.json"))) == 2)
        yield found


def at_once(two: Two, count: int, method: str, path: str, **options: Any) -> list[httpx.Response]:
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(two.ask, method, path, **options) for _ in range(count)]
        return [one.result() for one in asked]


def test_every_scrape_is_of_all_processes(two: Two) -> None:
    before, sent = two.listed(), 0
    counted = two.data_dir / "counts"

    def both_answered() -> bool:
        """Each writes to a file of its own when it answers."""
        nonlocal sent
        sizes = Counter(
            path.name for path in counted.glob("counter_*.db") if b"/v1/jobs" in path.read_bytes()
        )
        if len(sizes) < 2:
            sent += len(at_once(two, 32, "GET", "/v1/jobs"))
        return len(sizes) == 2

    assert wait_for(both_answered), "one process took every connection"
    assert {two.listed() for _ in range(12)} == {before + sent}
    one = max(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for pid in two.apis()
    )
    assert two.resident() > 1.5 * one
    build = [labels for name, labels in two.metrics() if name == "nidim_build_info"]
    assert len(build) == 1


def test_one_that_is_killed_is_not_missed(two: Two) -> None:
    at_once(two, 32, "GET", "/v1/jobs")
    before, (victim, other) = two.listed(), two.apis()
    os.kill(victim, signal.SIGKILL)
    answers = at_once(two, 32, "GET", "/v1/jobs")
    assert {answer.status_code for answer in answers} == {200}
    assert two.listed() == before + 32, "what the dead counted stays"
    assert wait_for(lambda: len(two.apis()) == 2)
    (fresh,) = set(two.apis()) - {other}
    assert wait_for((two.data_dir / "counts" / f"moment_{fresh}.json").exists), "it speaks for itself again"


def test_one_idempotency_key_is_one_job_in_both(two: Two) -> None:
    headers = {"Idempotency-Key": "the same"}
    answers = at_once(two, 32, "POST", "/v1/jobs", json=JOB, headers=headers)
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert [job["encoder"] for job in two.ask("GET", "/v1/jobs").json()["items"]] == ["once"]


def test_moments_are_added_and_the_silent_are_forgotten(tmp_path: Path) -> None:
    mine = Moment(encoders_loaded=1, images_waiting=2, broker_up=True, blobs_up=True, data_free_bytes=5)
    siblings = Siblings(tmp_path, lambda: mine)
    (tmp_path / "moment_11.json").write_text('{"encoders_loaded": 3, "blobs_up": true, "data_free_bytes": 7}')
    (tmp_path / "moment_12.json").write_text('{"encoders_loaded": 100}')
    (tmp_path / "moment_13.json").write_text('{"of another version": 1}')
    os.utime(tmp_path / "moment_12.json", (1, 1))
    found = siblings.moments()
    assert set(found) == {11, os.getpid()}
    both = found[11] + mine
    assert (both.encoders_loaded, both.images_waiting, both.data_free_bytes) == (4, 2, 5)
    assert (both.broker_up, both.blobs_up) == (False, True)
    assert Siblings(None, lambda: mine).moments() == {os.getpid(): mine}


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    shares = [(cores.decoders(s), cores.threads(s)) for s in (Settings(api_processes=n) for n in (1, 4, 64))]
    assert shares == [(8, 8), (4, 2), (1, 1)]
    given = Settings(api_processes=4, decode_processes=3, serve_threads=5)
    assert (cores.decoders(given), cores.threads(given)) == (3, 5)
