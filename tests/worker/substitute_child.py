"""Plays a training process: ``substitute_child.py PLAY --scratch … --job … --events-fd … --lifeline-fd …``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("play")
parser.add_argument("--scratch", type=Path)
parser.add_argument("--job", type=Path)
parser.add_argument("--events-fd", type=int)
parser.add_argument("--lifeline-fd", type=int)
given = parser.parse_args()
job = json.loads(given.job.read_text())
count = 0


def emit(kind: str, /, **data: object) -> None:
    line = json.dumps({"type": kind, "data": data}).encode() + b"\n"
    while line:
        line = line[os.write(given.events_fd, line) :]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def lifeline() -> None:
    os.read(given.lifeline_fd, 1)
    os._exit(70)


threading.Thread(target=lifeline, daemon=True).start()


def checkpoint(step: int) -> None:
    global count
    count += 1
    path = given.scratch / f"checkpoint-{count}"
    path.write_text(f"step {step}")
    emit("checkpoint", path=str(path), step=step)


def done(**changes: object) -> None:
    directory = given.scratch / "bundle"
    directory.mkdir()
    files = {}
    for name in ("model.safetensors", "config.json"):
        data = f"{name} {job['resume'] and Path(job['resume']).read_text()}".encode()
        (directory / name).write_bytes(data)
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    body = {
        "directory": str(directory),
        "manifest": {"files": files, "digest": "sha256:" + "0" * 64},
        "report": {"resumed": bool(job["resume"])},
        "spec": job["spec"],
        "resolved": job["resolved"],
        "dim": 2,
        "prior": {"kind": "gaussian", "dim": 2},
    }
    emit("done", **{**body, **changes})


def two_checkpoints() -> None:
    checkpoint(3)
    checkpoint(4)
    done()


def run_for(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)


def succeed() -> None:
    emit("log", message="here I am")
    emit("resolved", **{**job["resolved"], "device": "cpu"})
    for step in range(1, 4):
        emit("progress", step=step, steps=3, epoch=1, epochs=1, images_per_s=10.0, eta_s=0.0)
        emit("metric", step=step, mi_nats=0.5 * step, loss=-0.5 * step, capacity_nats=None)
    checkpoint(3)
    emit("warning", code="loss_unstable", detail="It jumps.")
    done()


def tracked() -> None:
    for name in ("training", "storing"):
        emit("phase", name=name)
    emit("record", level="WARNING", logger="nidim.x", message="a line of the child", pid=os.getpid())
    emit("record", level=7)
    done()


def tell() -> None:
    emit("log", message="dataset", **job["dataset"])
    done()


def loader() -> None:
    """Reads with processes of its own, as a daemonic child of a pool may not."""
    from torch.utils.data import DataLoader, Dataset

    class Readers(Dataset[tuple[int, int]]):
        """Row i and the process that read it."""

        def __len__(self) -> int:
            return 8

        def __getitem__(self, i: int) -> tuple[int, int]:
            return i, os.getpid()

    read = [
        (int(i), int(pid))
        for rows, pids in DataLoader(Readers(), batch_size=2, num_workers=2)
        for i, pid in zip(rows, pids, strict=True)
    ]
    emit("log", message="read", rows=[i for i, _ in read], pids=[pid for _, pid in read], own=os.getpid())
    done()


def noisy() -> None:
    say("a library prints")
    say('{"type": "failed", "data": {}}')
    os.write(given.events_fd, b"not json\n\n[1]\n" + b'{"type": "unheard", "data": {}}\n')
    emit("checkpoint", path="/etc/passwd", step=1)
    say("x" * 300_000)
    done()


def altered() -> None:
    done(manifest={"files": {"config.json": {"sha256": "0" * 64, "size": 3}}, "digest": "sha256:" + "0" * 64})


def crash() -> None:
    say("Traceback: something in /secret/place/module.py")
    os.kill(os.getpid(), signal.SIGSEGV)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after_checkpoint() -> None:
    if job["resume"]:
        done()
        return
    checkpoint(5)
    time.sleep(0.3)
    killed()


def killed_after_the_last_step() -> None:
    """As an evaluation that takes too much memory: the training is done, what follows never is."""
    checkpoint(9)
    time.sleep(0.3)
    killed()


def checkpoint_and_wait() -> None:
    checkpoint(5)
    run_for(60)


def slow() -> None:
    emit("log", message="ready")
    run_for(1.5)
    done()


def memory() -> None:
    emit("failed", retry=True, code="out_of_memory", message="The training ran out of memory.")


def poison_or_succeed() -> None:
    """Dies at once if its job says so."""
    if job["spec"].get("poison"):
        killed()
    succeed()


def polite_without_checkpoint() -> None:
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    emit("log", message="ready")
    while not asked.is_set():
        time.sleep(0.02)
    emit("stopped")


def hog() -> None:
    """Joins the memory group named by the tests and takes more than it has."""
    Path(os.environ["TEST_MEMORY_GROUP"], "cgroup.procs").write_text(str(os.getpid()))
    held = []
    while True:
        held.append(b"x" * (1 << 20))


def permanent() -> None:
    emit("failed", retry=False, code="training_diverged", message="The loss is nan in /some/where/x.py")


def polite() -> None:
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    emit("log", message="ready")
    while not asked.is_set():
        time.sleep(0.02)
    checkpoint(9)
    emit("stopped")


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    emit("log", message="ready")
    run_for(60)


def family() -> None:
    """A process of its own that holds the events open and would outlive its parent."""
    code = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], pass_fds=(given.events_fd,))
    emit("log", message="ready", pid=child.pid, own=os.getpid())
    run_for(60)


def family_left() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(given.events_fd,)
    )
    emit("log", message="ready", pid=child.pid, own=os.getpid())
    done()


globals()[given.play]()
