"""Starting a training in a fork of a process that is kept ready: it lives, ends and is told apart like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import children, command_line, name
from tests.waiting import wait_for
from worker import forkserver
from worker.guard import NAME, ORPHANED, STOPPED
from worker.process import Child
from worker.starting import Afresh, Warm, way_to_start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux only")

SPEC = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "batch_size": 32,
    "epochs": 10_000,
}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("NIDIM_DATABASE_URL", "a secret")
        start = Warm(exports=False)
    yield start
    start.close()


@pytest.fixture
def child(warm: Warm, tmp_path: Path) -> Iterator[Child]:
    child = begin(warm, tmp_path)
    yield child
    child.close()


def begin(start: Any, scratch: Path) -> Child:
    job = scratch / "job.json"
    settings = {"checkpoint_every_s": 30, "export_onnx": False}
    dataset = {"kind": "builtin", "name": "digits", "root": None, "allow_downloads": False}
    job.write_text(
        json.dumps({"spec": SPEC, "resolved": None, "resume": None, "settings": settings, "dataset": dataset})
    )
    return Child(start, scratch=scratch, job_file=job)


def until(child: Child, kind: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    for line in child.lines(tick_s=0.02):
        if line and (message := json.loads(line))["type"] == kind:
            return dict(message["data"])
        assert time.monotonic() < deadline, child.words()
    raise AssertionError(f"it ended without {kind}: {child.words()}")


def end(child: Child) -> int:
    for _ in child.lines(tick_s=0.02):
        pass
    return child.close()


def test_the_process_that_forks_has_one_thread_and_knows_no_setting(warm: Warm, child: Child) -> None:
    until(child, "progress")
    server = Path(f"/proc/{warm.server_pid}")
    assert len(list((server / "task").iterdir())) == 1
    assert b"a secret" not in (server / "environ").read_bytes()
    assert children(warm.server_pid) == [child.pid]
    assert name(child.pid) == NAME


def test_what_it_imports_is_there_and_starts_no_gpu() -> None:
    code = (
        "import sys; from worker import forkserver; forkserver.preload(forkserver.NEEDED); import torch\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(*[name for name in forkserver.NEEDED if name not in sys.modules])\n"
        "assert 'torch._dynamo' not in sys.modules; forkserver.preload(forkserver.EXPORTER)\n"
        "assert 'torch._dynamo' in sys.modules; assert not torch.cuda.is_initialized()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_what_cannot_be_imported_ahead_is_logged_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forkserver.gc, "freeze", lambda: None)
    forkserver.preload(("json", "no_such_module"))
    assert "no_such_module is not imported ahead" in caplog.text


def test_a_fork_answers_sigterm_with_a_checkpoint_and_the_next_one_follows(
    warm: Warm, tmp_path: Path, child: Child
) -> None:
    server = warm.server_pid
    until(child, "progress")
    child.stop(grace_s=30)
    assert until(child, "checkpoint")["step"] > 0
    assert end(child) == STOPPED
    (tmp_path / "next").mkdir()
    following = begin(warm, tmp_path / "next")
    until(following, "resolved")
    assert following.close() == -signal.SIGKILL
    assert warm.server_pid == server


def test_a_fork_leaves_with_its_lifeline(child: Child) -> None:
    until(child, "resolved")
    os.close(child._lifeline)
    child._lifeline = os.open(os.devnull, os.O_RDONLY)
    assert end(child) == ORPHANED


def test_a_killed_server_takes_its_training_along_and_is_started_again(
    warm: Warm, tmp_path: Path, child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    until(child, "resolved")
    training, server = child.pid, warm.server_pid
    os.kill(server, signal.SIGKILL)
    assert end(child) == -signal.SIGKILL
    assert wait_for(lambda: not command_line(training))
    (tmp_path / "next").mkdir()
    following = begin(warm, tmp_path / "next")
    until(following, "resolved")
    assert warm.server_pid != server
    assert "the process that forks ended (-9)" in caplog.text
    following.close()


def test_a_training_may_be_stopped_while_the_server_still_imports(tmp_path: Path) -> None:
    start = Warm(exports=False)
    try:
        child = begin(start, tmp_path)
        began = time.monotonic()
        child.stop(grace_s=30)
        assert end(child) == -signal.SIGKILL
        assert time.monotonic() - began < 1.5  # a cancel takes effect within 2 s
        (tmp_path / "next").mkdir()
        following = begin(start, tmp_path / "next")
        until(following, "resolved")
        following.close()
    finally:
        start.close()


def test_server_and_training_leave_with_their_worker(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.worker import test_starting as t\n"
        "start = t.Warm(exports=False); child = t.begin(start, Path(sys.argv[1])); t.until(child, 'resolved')\n"
        "print(start.server_pid, child.pid, flush=True); time.sleep(600)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert worker.stdout is not None
    with worker.stdout:
        left = [int(word) for word in worker.stdout.readline().split()]
    assert len(left) == 2
    assert all(command_line(pid) for pid in left)
    worker.kill()
    worker.wait()
    assert wait_for(lambda: not any(command_line(pid) for pid in left))


def test_the_setting_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(way_to_start(warm=False, exports=True), Afresh)
    monkeypatch.setattr("worker.starting.sys.platform", "darwin")
    assert isinstance(way_to_start(warm=True, exports=True), Afresh)
