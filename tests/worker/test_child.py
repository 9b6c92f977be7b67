"""The real training process, as its runner sees it: what it sends, how it stops, how it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny_encoder import write_bundle
from nidim.capacity import resolve
from nidim.data import ImageLimits, ingest
from nidim.data.builtin import builtin_facts
from nidim.spec import DatasetFacts, TrainSpec
from nidim.spec.generator import GeneratorSpec, SourceFacts, resolve_generator
from tests.nidim.samples import arc
from worker.guard import ORPHANED, STOPPED
from worker.process import Child
from worker.starting import CHILD, Afresh, Start, Warm, environment

SPEC = {
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "batch_size": 32,
    "epochs": 10_000,
    "precision": "float32",
}
WITHOUT_EXPORT = {"checkpoint_every_s": 0.2, "export_onnx": False}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        start = Warm(exports=False)
    yield start
    start.close()


class Trial:
    """One child and what it has sent."""

    def __init__(self, scratch: Path, body: dict[str, Any], start: Start) -> None:
        scratch.mkdir(exist_ok=True)
        job_file = scratch / "job.json"
        job_file.write_text(json.dumps({"resume": None, "settings": WITHOUT_EXPORT, **body}))
        self.child = Child(start, scratch=scratch, job_file=job_file)
        self.messages: list[dict[str, Any]] = []
        self._lines = self.child.lines(tick_s=0.05)

    def until(self, kind: str, seconds: float = 120) -> dict[str, Any]:
        """The data of the next message of this kind."""
        deadline = time.monotonic() + seconds
        for line in self._lines:
            if line:
                self.messages.append(json.loads(line))
                if self.messages[-1]["type"] == kind:
                    return dict(self.messages[-1]["data"])
            assert time.monotonic() < deadline, self.child.words()
        raise AssertionError(f"it ended without {kind}: {self.messages} {self.child.words()}")

    def end(self) -> int:
        """Read to the end; the exit status."""
        self.messages += [json.loads(line) for line in self._lines if line]
        return self.child.close()

    def kinds(self) -> set[str]:
        return {message["type"] for message in self.messages}


@pytest.fixture
def trials(tmp_path: Path, warm: Warm) -> Iterator[Any]:
    started: list[Trial] = []

    def begin(body: dict[str, Any], start: Start = warm) -> Trial:
        started.append(Trial(tmp_path / f"scratch-{len(started)}", body, start))
        return started[-1]

    yield begin
    for trial in started:
        trial.child.close()


def builtin(name: str, **spec: Any) -> dict[str, Any]:
    return {
        **described(builtin_facts("digits"), dataset=name, **spec),
        "dataset": {"kind": "builtin", "name": name, "root": None, "allow_downloads": False},
    }


def described(facts: DatasetFacts, **spec: Any) -> dict[str, Any]:
    given = TrainSpec.model_validate({**SPEC, **spec})
    resolved, _ = resolve(given.filled(facts), facts)
    return {"spec": given.model_dump(mode="json"), "resolved": resolved.model_dump(mode="json")}


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    np.savez(path, images=generator.integers(0, 255, (200, 8, 8), dtype=np.uint8), labels=np.arange(200) % 4)
    index = ingest(path, limits=ImageLimits())
    (tmp_path / "index.json").write_text(index.model_dump_json())
    source = {
        "kind": "archive",
        "name": "mine",
        "path": str(path),
        "index": str(tmp_path / "index.json"),
        "cache_dir": str(tmp_path / "cache"),
        "license": None,
    }
    return {**described(index.facts("mine"), dataset="mine"), "dataset": source}


def test_a_law_of_points_is_fitted_once_and_leaves_as_a_file(trials: Any) -> None:
    law = {"kind": "flow", "points": arc(100).tolist()}
    trial = trials(builtin("digits", prior=law, epochs=1, evaluation="quick"))
    done = trial.until("done", seconds=240)
    assert trial.end() == 0
    entered = [message["data"]["name"] for message in trial.messages if message["type"] == "phase"]
    assert entered[:3] == ["dataset", "fitting the prior", "training"]
    file = Path(done["directory"]) / "prior.safetensors"
    assert done["prior"] == {"kind": "flow", "dim": 2, "file": f"sha256:{digest_of(file)}"}
    assert done["manifest"]["files"]["prior.safetensors"]["sha256"] == digest_of(file)
    assert done["spec"]["prior"]["points"]["n"] == 100
    assert done["report"]["target_fit"]["n"] == 100


def generator_of(encoder: Path, **spec: Any) -> dict[str, Any]:
    """The job file of a generator for the digits, with the encoder in that directory."""
    facts = builtin_facts("digits")
    source = SourceFacts(dataset="digits", dim=2, image_size=8, channels=1)
    model = {"kind": "flow_matching", "width": 8, "steps": 2}
    given = {"kind": "generator", "source": "tiny@1", "model": model, "batch_size": 32, **spec}
    full = GeneratorSpec.model_validate(given).filled(source, facts)
    return {
        "kind": "generator",
        "spec": full.model_dump(mode="json"),
        "resolved": resolve_generator(full, source, facts).model_dump(mode="json"),
        "source": str(encoder),
        "dataset": {"kind": "builtin", "name": "digits", "root": None, "allow_downloads": False},
    }


def test_a_generator_stops_with_a_checkpoint_goes_on_and_leaves_its_files(
    trials: Any, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "encoder")
    body = generator_of(tmp_path / "encoder", epochs=4, evaluation="quick", precision="float32")
    first = trials(body)
    first.until("checkpoint")
    first.child.stop(grace_s=30)
    assert first.end() == 0
    assert first.messages[-1]["type"] == "stopped"
    last = [message["data"] for message in first.messages if message["type"] == "checkpoint"][-1]
    second = trials({**body, "resume": last["path"]})
    progress = second.until("progress")
    assert last["step"] < progress["step"] <= progress["steps"] == 4 * body["resolved"]["steps_per_epoch"]
    assert second.until("metric")["loss"] > 0
    done = second.until("done", seconds=120)
    assert second.end() == 0
    entered = [message["data"]["name"] for message in second.messages if message["type"] == "phase"]
    assert entered == ["dataset", "embedding", "training", "evaluating", "storing"]
    assert (done["dim"], done["prior"]["kind"], done["report"]["features"]) == (2, "gaussian", "classifier")
    assert set(done["manifest"]["files"]) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "report.json",
        "samples.png",
    }


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_it_stops_with_a_checkpoint_and_goes_on_from_it(
    trials: Any, archive: dict[str, Any], tmp_path: Path
) -> None:
    first = trials(archive)
    resolved = first.until("resolved")
    assert resolved["threads"] == 1
    first.until("checkpoint")
    first.child.stop(grace_s=30)
    assert first.end() == 0
    assert first.messages[-1]["type"] == "stopped"
    last = [message["data"] for message in first.messages if message["type"] == "checkpoint"][-1]
    assert last["step"] > 0
    second = trials({**archive, "resolved": resolved, "resume": last["path"]})
    assert second.until("progress")["step"] > last["step"]
    assert second.until("metric")["mi_nats"] is not None


def test_a_damaged_checkpoint_costs_work_not_the_job(
    trials: Any, archive: dict[str, Any], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\x00" * 100)
    trial = trials({**archive, "resume": str(damaged)})
    assert trial.until("warning")["code"] == "checkpoint_unreadable"
    trial.until("progress")


def test_sigterm_before_the_first_step_is_obeyed_at_once(trials: Any) -> None:
    trial = trials(builtin("digits"), Afresh())
    wait_for_guard(trial.child)
    trial.child.stop(grace_s=60)
    assert trial.end() == STOPPED
    assert trial.messages == [{"type": "stopped", "data": {}}]


def wait_for_guard(child: Child) -> None:
    """Until SIGTERM has a handler; before that it simply ends the process."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = Path(f"/proc/{child.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        if caught >> 14 & 1:
            return
        time.sleep(0.005)
    raise AssertionError("no handler")


def test_it_leaves_when_its_lifeline_ends(trials: Any) -> None:
    trial = trials(builtin("digits"))
    trial.until("resolved")
    os.close(trial.child._lifeline)
    trial.child._lifeline = os.open(os.devnull, os.O_RDONLY)
    assert trial.end() == ORPHANED


def test_a_dataset_that_is_not_here_is_named_and_not_tried_again(trials: Any) -> None:
    trial = trials(builtin("mnist"))
    failed = trial.until("failed")
    assert (failed["retry"], failed["code"]) == (False, "dataset_unavailable")
    assert trial.end() == 1


@pytest.mark.slow
def test_a_training_to_its_end_hands_over_the_same_weights_from_a_fork_and_afresh(
    trials: Any, archive: dict[str, Any]
) -> None:
    archive["spec"]["epochs"] = 1
    archive["settings"] = {**WITHOUT_EXPORT, "export_onnx": True}
    forked, afresh = trials(archive), trials({**archive, "settings": WITHOUT_EXPORT}, Afresh())
    done, again = (trial.until("done", 120) for trial in (forked, afresh))
    assert forked.end() == afresh.end() == 0
    files = done["manifest"]["files"]
    assert files["model.safetensors"] == again["manifest"]["files"]["model.safetensors"]
    assert {"model.safetensors", "config.json", "report.json", "README.md", "model.onnx"} <= set(files)
    for name, entry in files.items():
        assert (Path(done["directory"]) / name).stat().st_size == entry["size"]
    assert done["dim"] == 2
    assert done["prior"]["kind"] == "gaussian"
    assert done["spec"]["objective"]["kind"] == "infonce"
    assert {"resolved", "progress", "metric", "log"} <= forked.kinds()


def test_the_child_sees_no_setting_of_ours() -> None:
    seen = environment({"NIDIM_DATABASE_URL": "secret", "PATH": "/bin", "OMP_WAIT_POLICY": "ACTIVE"})
    assert seen == {**CHILD, "PATH": "/bin", "OMP_WAIT_POLICY": "ACTIVE"}
    assert environment({}) == CHILD
    assert environment({"GLIBC_TUNABLES": "glibc.malloc.check=1"})["GLIBC_TUNABLES"] == "glibc.malloc.check=1"


def test_stop_may_be_asked_from_any_thread(trials: Any) -> None:
    trial = trials(builtin("digits"), Afresh())
    wait_for_guard(trial.child)
    threads = [threading.Thread(target=trial.child.stop, kwargs={"grace_s": 9}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trial.end() == STOPPED
