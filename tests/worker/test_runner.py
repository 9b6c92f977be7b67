"""One attempt at one job: every way in which it can end, with real processes and a played training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from service.store import datasets, encoders, jobs
from service.store.tables import JobRow
from tests.waiting import wait_for
from worker import control, runner
from worker.inputs import prepare
from worker.runner import Outcome

HERE = Path(__file__).parent


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_training_that_ends_well_registers_one_encoder(bench: Any) -> None:
    job = bench.job(priority="high")
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    ended = bench.read(job)
    assert ended.state == "succeeded"
    assert ended.result["name"] == "enc"
    assert ended.resolved["dim"] == 2
    assert ended.progress["step"] == 3
    assert ended.metrics["mi_nats"] == 1.5
    assert [warning["code"] for warning in ended.warnings] == ["loss_unstable"]
    assert bench.events(job, "log")[0] == {"message": "here I am"}
    assert len(bench.events(job, "progress")) == 3
    assert bench.events(job, "checkpoint")[0]["step"] == 3
    with bench.store.session() as tx:
        encoder = encoders.get_by_ref(tx, "enc")
    assert encoder is not None
    stored = bench.store.blobs.read(encoder.files["config.json"].digest)
    assert stored == b"config.json None"
    assert not bench.scratch()
    assert not bench.published


@pytest.mark.parametrize("onnx", [True, False])
def test_a_training_learns_the_settings_that_concern_it_and_no_other(
    onnx: bool, bench: Any, tmp_path: Path
) -> None:
    settings = bench.settings.model_copy(update={"export_onnx": onnx})
    given = json.loads(prepare(bench.store, settings, bench.job(), tmp_path).read_text())["settings"]
    assert given == {"checkpoint_every_s": 1.0, "export_onnx": onnx, "log_level": "info"}


@pytest.mark.parametrize("configured", [True, False])
def test_built_in_datasets_have_a_place_to_be_downloaded_to(
    configured: bool, bench: Any, tmp_path: Path
) -> None:
    chosen = tmp_path / "torchvision" if configured else None
    settings = bench.settings.model_copy(update={"allow_downloads": True, "datasets_dir": chosen})
    given = json.loads(prepare(bench.store, settings, bench.job(), tmp_path).read_text())["dataset"]
    place = chosen or bench.settings.data_dir / "datasets"
    assert given == {"kind": "builtin", "name": "digits", "root": str(place), "allow_downloads": True}


def test_a_second_delivery_is_dropped(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    assert bench.run(job, "succeed") is Outcome.DROPPED
    assert bench.read(job).attempt == 1


@pytest.mark.parametrize("forged", ["job_" + "0" * 26, "../../etc", "", "job_x", "enc_1", "job_\u0661" * 7])
def test_a_job_that_is_not_in_the_database_is_dropped(bench: Any, forged: str) -> None:
    assert bench.run(forged, "succeed") is Outcome.DROPPED


@pytest.mark.embedded
def test_what_libraries_print_and_broken_lines_disturb_nothing(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "noisy") is Outcome.SUCCEEDED
    assert bench.read(job).checkpoint_digest is None


def test_a_bundle_that_changed_on_its_way_is_not_registered(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "altered") is Outcome.ABANDONED
    with bench.store.session() as tx:
        assert encoders.get_by_ref(tx, "enc") is None


def test_a_permanent_failure_ends_the_job_at_once(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "permanent") is Outcome.FAILED
    failure = bench.read(job).failure
    assert failure == {"code": "training_diverged", "message": "The loss is nan in x.py"}


def test_three_attempts_without_progress_end_the_job_with_the_reason(bench: Any) -> None:
    job = bench.job()
    outcomes = [bench.run(job, "crash") for _ in range(3)]
    assert outcomes == [Outcome.ABANDONED, Outcome.ABANDONED, Outcome.FAILED]
    failure = bench.read(job).failure
    assert failure["code"] == "crashed"
    assert "3 attempts" in failure["message"]
    assert "SIGSEGV" in failure["message"]
    assert "/secret" not in failure["message"]
    assert len(bench.published) == 2


def test_the_same_checkpoint_again_is_no_progress(bench: Any) -> None:
    """A job that dies after its last step must not circle for ever."""
    job = bench.job()
    outcomes = [bench.run(job, "killed_after_the_last_step") for _ in range(4)]
    assert outcomes == [Outcome.ABANDONED, Outcome.ABANDONED, Outcome.ABANDONED, Outcome.FAILED]
    assert bench.read(job).failure["code"] == "killed"


@pytest.mark.embedded
@pytest.mark.parametrize(("play", "code"), [("memory", "out_of_memory"), ("killed", "killed")])
def test_memory_that_runs_out_is_named(bench: Any, play: str, code: str) -> None:
    job = bench.job()
    outcomes = [bench.run(job, play) for _ in range(3)]
    assert outcomes[-1] is Outcome.FAILED
    assert bench.read(job).failure["code"] == code
    assert "batch_size" in bench.read(job).failure["message"] or code == "out_of_memory"


def test_a_killed_training_goes_on_from_its_checkpoint(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "killed_after_checkpoint") is Outcome.ABANDONED
    assert bench.published == [(job.id, "normal")]
    between = bench.read(job)
    assert between.state == "running"
    assert between.checkpoint_step == 5
    assert bench.run(job, "killed_after_checkpoint") is Outcome.SUCCEEDED
    with bench.store.session() as tx:
        encoder = encoders.get_by_ref(tx, "enc")
    assert encoder is not None
    assert encoder.report == {"resumed": True}
    assert bench.store.blobs.read(encoder.files["config.json"].digest) == b"config.json step 5"
    assert bench.read(job).attempt == 2


def test_a_checkpoint_that_is_gone_costs_work_not_the_job(bench: Any) -> None:
    job = bench.job()
    bench.run(job, "killed_after_checkpoint")
    bench.store.blobs.delete(bench.read(job).checkpoint_digest)
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED


@pytest.mark.parametrize("busy", ["fetching its dataset", "storing its bundle"])
def test_a_cancel_takes_effect_while_there_is_no_training_to_stop(
    bench: Any, monkeypatch: pytest.MonkeyPatch, busy: str
) -> None:
    """For as long as a store elsewhere takes; the attempt then writes nothing more."""
    place, name = (runner, "prepare") if busy == "fetching its dataset" else (bench.store.blobs, "put_file")
    began, goes_on, action = threading.Event(), threading.Event(), getattr(place, name)

    def slow(*given: Any) -> Any:
        began.set()
        assert goes_on.wait(60)
        return action(*given)

    monkeypatch.setattr(place, name, slow)
    job = bench.job()
    running = bench.start(job, "succeed")
    assert began.wait(60)
    with bench.store.begin() as tx:
        jobs.request_cancel(tx, job.id)
    assert wait_for(lambda: bench.read(job).state == "cancelled"), "while it is busy still"
    goes_on.set()
    assert running.result() is Outcome.CANCELLED
    assert [event["state"] for event in bench.events(job, "state")][-1] == "cancelled"
    with bench.store.session() as tx:
        assert encoders.get_by_ref(tx, "enc") is None
    assert bench.scratch() == []


def cancelled(bench: Any, play: str) -> tuple[Any, float]:
    """The job after a cancel, and the seconds that this took."""
    bench.settings = bench.settings.model_copy(update={"cancel_grace_s": 10.0, "heartbeat_s": 4.0})
    job = bench.job()
    running = bench.start(job, play)
    bench.wait_until_ready(job)
    with bench.store.begin() as tx:
        jobs.request_cancel(tx, job.id)
    asked = time.monotonic()
    assert running.result() is Outcome.CANCELLED
    found = bench.read(job)
    assert found.state == "cancelled"
    return found, time.monotonic() - asked


def test_a_cancel_takes_effect_within_two_seconds(bench: Any) -> None:
    job, took_s = cancelled(bench, "stubborn")
    # The promise is 2 s; this bound only tells it from the grace of 10 s on a machine that is busy.
    assert took_s < 6
    assert job.checkpoint_step is None


def test_a_cancelled_training_that_stops_in_time_leaves_its_checkpoint(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as much time as a busy machine takes for that."""
    monkeypatch.setattr(control, "CANCEL_GRACE_S", 10.0)
    monkeypatch.setattr(control, "CANCEL_ANYWAY_S", 15.0)
    job, _ = cancelled(bench, "polite")
    assert job.checkpoint_step == 9


def test_a_drain_stores_the_checkpoint_and_hands_the_job_back(bench: Any) -> None:
    job = bench.job(priority="low")
    drain: list[bool] = []
    running = bench.start(job, "polite", should_drain=lambda: bool(drain))
    bench.wait_until_ready(job)
    drain.append(True)
    assert running.result() is Outcome.RELEASED
    released = bench.read(job)
    assert released.state == "queued"
    assert released.checkpoint_step == 9
    assert released.attempts_without_checkpoint == 0
    assert bench.published == [(job.id, "low")]
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED


@pytest.mark.embedded
def test_a_training_that_was_told_to_stop_by_somebody_else_is_handed_back(bench: Any) -> None:
    job = bench.job()
    running = bench.start(job, "polite")
    bench.wait_until_ready(job)
    children = Path(f"/proc/self/task/{_thread_of(running)}/children").read_text().split()
    for pid in children:
        os.kill(int(pid), signal.SIGTERM)
    assert running.result() is Outcome.RELEASED


def _thread_of(running: Any) -> int:
    return int(running._thread.native_id)


def test_a_worker_that_lost_its_lease_kills_its_training_and_writes_nothing(bench: Any) -> None:
    job = bench.job()
    running = bench.start(job, "family")
    ready = bench.wait_until_ready(job)
    with bench.store.begin() as tx:
        tx.execute(
            update(JobRow).where(JobRow.id == job.id).values(fence=JobRow.fence + 1, lease_owner="other")
        )
    before = bench.read(job)
    assert running.result() is Outcome.LOST
    assert wait_for(lambda: not is_alive(ready["own"]))
    assert wait_for(lambda: not is_alive(ready["pid"]))
    assert bench.read(job) == before
    assert not bench.published


def test_a_database_that_stays_away_costs_the_lease(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.settings = bench.settings.model_copy(update={"lease_s": 1.0, "heartbeat_s": 0.2})
    job = bench.job()
    running = bench.start(job, "stubborn")
    bench.wait_until_ready(job)

    def away(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("away"))

    monkeypatch.setattr(control.jobs, "heartbeat", away)
    assert running.result() is Outcome.LOST


@pytest.mark.embedded
def test_what_a_finished_training_leaves_running_is_killed(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "family_left") is Outcome.SUCCEEDED
    assert wait_for(lambda: not is_alive(bench.events(job, "log")[0]["pid"]))


@pytest.mark.embedded
def test_a_training_leaves_when_its_worker_is_killed(bench: Any) -> None:
    job = bench.job()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import Bench; from service.settings import Settings; from service.store import open_store\n"
        "settings = Settings.model_validate_json(sys.argv[2])\n"
        "Bench(open_store(settings), settings).run(sys.argv[3], 'stubborn')"
    )
    settings = bench.settings.model_dump_json()
    worker = subprocess.Popen([sys.executable, "-c", code, str(HERE), settings, job.id])
    bench.wait_until_ready(job)
    training = int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])
    assert is_alive(training)
    worker.kill()
    worker.wait()
    assert wait_for(lambda: not is_alive(training))


def upload(bench: Any, *, state: str) -> None:
    archive = bench.settings.data_dir / "upload"
    archive.write_bytes(b"an archive")
    digest, size = bench.store.blobs.put_file(archive)
    index, _ = bench.store.blobs.put_bytes(b"{}")
    with bench.store.begin() as tx:
        datasets.create(tx, name="mine", license="CC0-1.0", blob_digest=digest, size_bytes=size)
        datasets.set_state(tx, "mine", state, index_digest=index)


def test_an_uploaded_dataset_is_fetched_once(bench: Any) -> None:
    upload(bench, state="ready")
    for encoder in ("one", "two"):
        job = bench.job(spec={"dataset": "mine"}, encoder=encoder)
        assert bench.run(job, "tell") is Outcome.SUCCEEDED
        source = bench.events(job, "log")[0]
        assert (source["kind"], source["license"]) == ("archive", "CC0-1.0")
        assert Path(source["path"]).read_bytes() == b"an archive"
        assert Path(source["index"]).read_bytes() == b"{}"
    assert len(list((bench.settings.data_dir / "cache" / "datasets").iterdir())) == 2


def test_a_cached_dataset_that_changed_is_fetched_anew(bench: Any) -> None:
    upload(bench, state="ready")
    first, second = (bench.job(spec={"dataset": "mine"}, encoder=encoder) for encoder in ("one", "two"))
    assert bench.run(first, "tell") is Outcome.SUCCEEDED
    path = Path(bench.events(first, "log")[0]["path"])
    with path.open("r+b") as cached:
        cached.write(b"X")
    assert bench.run(second, "tell") is Outcome.SUCCEEDED
    assert bench.events(second, "log")[0]["path"] == str(path)
    assert path.read_bytes() == b"an archive"


def test_an_upload_that_is_not_ready_fails_the_job_at_once(bench: Any) -> None:
    job = bench.job(spec={"dataset": "mine"})
    upload(bench, state="failed")
    assert bench.run(job, "tell") is Outcome.FAILED
    assert bench.read(job).failure["code"] == "dataset_unavailable"


def test_a_dataset_whose_file_is_gone_is_tried_again_and_then_named(bench: Any) -> None:
    upload(bench, state="ready")
    job = bench.job(spec={"dataset": "mine"})
    with bench.store.session() as tx:
        found = datasets.get(tx, "mine")
    bench.store.blobs.delete(found.blob_digest)
    assert [bench.run(job, "tell") for _ in range(3)][-1] is Outcome.FAILED
    assert "gone" in bench.read(job).failure["message"]


@pytest.mark.embedded
def test_scratch_of_a_killed_attempt_is_removed_by_the_next(bench: Any) -> None:
    job = bench.job()
    left = bench.settings.data_dir / "scratch" / f"{job.id}-0"
    left.mkdir(parents=True)
    (left / "checkpoint-1").write_text("old")
    bench.run(job, "succeed")
    assert not bench.scratch()


def test_a_checkpoint_over_the_quota_is_left_out_and_the_job_goes_on(bench: Any) -> None:
    bench.settings = bench.settings.model_copy(update={"disk_quota_bytes": 3})
    job = bench.job()
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    warnings = [warning["detail"] for warning in bench.read(job).warnings if "checkpoint" in warning["code"]]
    assert len(warnings) == 1
    assert "the training goes on" in warnings[0]
    assert "disk quota" in warnings[0]
    assert bench.events(job, "checkpoint") == []


def test_a_checkpoint_takes_the_place_of_the_one_before_under_the_quota(bench: Any) -> None:
    """Seven bytes are room for one checkpoint, not for two: the second replaces the first."""
    bench.settings = bench.settings.model_copy(update={"disk_quota_bytes": 7})
    job = bench.job()
    bench.run(job, "two_checkpoints")
    assert [data["step"] for data in bench.events(job, "checkpoint")] == [3, 4]
    assert bench.read(job).warnings == []


@pytest.mark.embedded
def test_a_full_disk_costs_checkpoints_not_the_job(bench: Any) -> None:
    free = shutil.disk_usage(bench.settings.data_dir).free
    bench.settings = bench.settings.model_copy(update={"disk_reserve_bytes": 2 * free})
    job = bench.job()
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    (warning,) = [found for found in bench.read(job).warnings if found["code"] == "checkpoint_not_stored"]
    assert "nearly full" in warning["detail"]
