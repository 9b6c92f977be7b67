"""The whole stack under ``nidim up``, with parts of it killed: a job ends once, goes on from its checkpoint, and
nothing is left behind."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import embedded_redis
from service.settings import Settings
from service.store import jobs, open_store
from tests.chaos.processes import children, command_line, name
from worker.guard import NAME as TRAINING

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; elsewhere parts have no leash"),
]

TINY = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "batch_size": 64,
    "precision": "float32",
    "evaluation": "quick",
}
READY = "nidim is ready: "
QUICK = {
    "NIDIM_LEASE_S": "3",
    "NIDIM_HEARTBEAT_S": "0.5",
    "NIDIM_REAPER_EVERY_S": "0.5",
    "NIDIM_REPUBLISH_AFTER_S": "5",
    "NIDIM_CHECKPOINT_EVERY_S": "0.3",
    "OMP_NUM_THREADS": "1",  # the tests share few cores with others
}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Up:
    """A running ``nidim up``."""

    def __init__(self, data_dir: Path, place: Mapping[str, str]) -> None:
        self.data_dir, self.place = data_dir, place
        given = {f"NIDIM_{name.upper()}": value for name, value in place.items()}
        command = [
            sys.executable,
            "-m",
            "nidim",
            "up",
            "--port",
            "0",
            "--workers",
            "1",
            "--data-dir",
            str(data_dir),
        ]
        self.log = (data_dir.parent / f"up-{time.monotonic_ns()}.log").open("w+b")
        self.process = subprocess.Popen(
            command, env={**os.environ, **QUICK, **given}, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.api = httpx.Client(base_url=self._url(), trust_env=False, timeout=60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)

    def _url(self) -> str:
        while True:
            line = self._lines.get(timeout=120)
            if line.startswith(READY):
                return line.removeprefix(READY).strip()

    def part(self, words: str) -> int | None:
        """The process id of the part whose command has these words."""
        return next((pid for pid in children(self.process.pid) if words in command_line(pid)), None)

    def training(self) -> int | None:
        worker = self.part(" worker ")
        found = children(worker) if worker else []
        forks = [fork for pid in found for fork in children(pid)]
        return next((pid for pid in [*found, *forks] if name(pid) == TRAINING), None)

    def everything(self) -> list[int]:
        parts = children(self.process.pid)
        below = [child for part in parts for child in children(part)]
        return [*parts, *below, *(child for part in below for child in children(part))]

    def submit(self, encoder: str, **spec: Any) -> str:
        answer = self.api.post("/v1/jobs", json={"spec": {**TINY, **spec}, "encoder": encoder})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET; again if the API was killed under it. While it starts again, the socket's queue keeps the client."""
        try:
            return self.api.get(path, **options)
        except httpx.TransportError:
            return self.api.get(path, **options)

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/jobs/{job_id}").json())

    def events(self, job_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["id"] if found else 0
            answer = self.get(
                f"/v1/jobs/{job_id}/events", params={"after": after}, headers={"Accept": "application/json"}
            )
            page = answer.json()
            items = page["items"] if isinstance(page, dict) else page
            if not items:
                return found
            found += items

    def steps(self, job_id: str, kind: str) -> list[int]:
        return [event["data"]["step"] for event in self.events(job_id) if event["type"] == kind]

    def wait_for_checkpoint(self, job_id: str, *, more_than: int = 0) -> int:
        """Steps of a checkpoint beyond ``more_than``."""
        found = wait_for(
            lambda: [step for step in self.steps(job_id, "checkpoint") if step > more_than], "a checkpoint"
        )
        return int(max(found))

    def close(self) -> None:
        self.api.close()
        if self.process.poll() is None:
            left = self.everything()
            self.process.kill()
            self.process.wait()
            for pid in left:
                if command_line(pid):
                    os.kill(pid, signal.SIGKILL)
        self.log.close()
        shutil.rmtree(embedded_redis.socket_dir(self.data_dir), ignore_errors=True)


@pytest.fixture
def start(tmp_path: Path, place: dict[str, str]) -> Iterator[Callable[[], Up]]:
    running: list[Up] = []

    def begin() -> Up:
        running.append(Up(tmp_path / "data", place))
        return running[-1]

    yield begin
    for stack in running:
        stack.close()


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def stored(up: Up, job_id: str) -> jobs.Job:
    store = open_store(Settings(data_dir=up.data_dir, **up.place))
    with store.session() as tx:
        job = jobs.get(tx, job_id)
    store.close()
    assert job is not None
    return job


def test_a_job_ends_once_though_training_worker_and_api_are_killed(start: Callable[[], Up]) -> None:
    up = start()
    job_id = up.submit("survivor", epochs=25)
    first = up.wait_for_checkpoint(job_id)
    kill(up.training())
    wait_for(lambda: up.job(job_id)["attempt"] == 2, "the attempt after the training was killed")
    second = up.wait_for_checkpoint(job_id, more_than=first)
    kill(up.part("service.serve"))
    kill(up.part(" worker "))
    wait_for(lambda: up.job(job_id)["attempt"] == 3, "the attempt after the worker was killed")
    ended = wait_for(
        lambda: (job := up.job(job_id))["state"] not in ("queued", "running") and job, "the end", 180
    )
    assert ended["state"] == "succeeded", ended
    assert ended["result"]["version"] == 1
    assert len(up.api.get("/v1/encoders").json()["items"]) == 1
    events = up.events(job_id)
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    states = [event["data"]["state"] for event in events if event["type"] == "state"]
    assert states.count("succeeded") == 1
    assert states[-1] == "succeeded"
    resumed_at = [event["id"] for event in events if event["data"].get("state") == "running"]
    after_third = [e["data"]["step"] for e in events if e["type"] == "progress" and e["id"] > resumed_at[-1]]
    assert min(after_third) > second, "the third attempt did not start from the checkpoint"
    embedded = up.api.post(
        "/v1/encoders/survivor/prior/sample", json={"n": 2, "seed": 1}, headers={"Accept": "application/json"}
    )
    assert embedded.status_code == 200


@pytest.mark.embedded
def test_ctrl_c_loses_no_job_and_a_cancel_is_quick(start: Callable[[], Up]) -> None:
    up = start()
    job_id = up.submit("long", epochs=10_000)
    up.wait_for_checkpoint(job_id)
    second = subprocess.run(
        [sys.executable, "-m", "nidim", "up", "--port", "0", "--data-dir", str(up.data_dir)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert second.returncode == 1
    assert f"pid {up.process.pid}" in second.stderr

    everything = up.everything()
    assert len(everything) >= 4
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(120) == 0
    assert not [pid for pid in everything if command_line(pid)]
    job = stored(up, job_id)
    assert job.state == "queued"
    assert job.checkpoint_step is not None
    assert not list((up.data_dir / "scratch").glob("job_*"))

    again = start()
    further = wait_for(
        lambda: [step for step in again.steps(job_id, "progress") if step > job.checkpoint_step], "progress"
    )
    assert further
    assert again.job(job_id)["attempt"] == 2
    asked = time.monotonic()
    assert again.api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    wait_for(lambda: again.job(job_id)["state"] == "cancelled", "the cancel")
    assert time.monotonic() - asked < 10  # 2 s are promised; the machine of a test may be busy
    assert again.training() is None


@pytest.mark.embedded
def test_nothing_is_orphaned_when_the_launcher_is_killed(start: Callable[[], Up]) -> None:
    up = start()
    job_id = up.submit("orphan", epochs=10_000)
    up.wait_for_checkpoint(job_id)
    everything = up.everything()
    assert any("redis-server" in command_line(pid) for pid in everything)
    assert any(name(pid) == TRAINING for pid in everything)
    kill(up.process.pid)
    up.process.wait()
    wait_for(lambda: not [pid for pid in everything if command_line(pid)], "every part leaves")
    assert stored(up, job_id).state in ("queued", "running")
    again = start()
    wait_for(lambda: again.job(job_id)["attempt"] == 2, "the job goes on")
