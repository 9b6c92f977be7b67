"""Memory that really runs out, under a training: by a limit of its address space, and by the kernel's own hand."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for
from worker import memory
from worker.runner import Outcome
from worker.starting import Afresh

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits other processes"),
]

TINY = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "batch_size": 64,
    "precision": "float32",
    "epochs": 10,
}
GROUP_BYTES = 64 << 20


def training_of(scratch: Path) -> int | None:
    """The process whose scratch directory this is."""
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and str(scratch).encode() in (path / "cmdline").read_bytes():
                return int(path.name)
    return None


def address_space(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmSize")).split()[1]) << 10


def test_a_training_without_memory_says_so(bench: Any) -> None:
    """The limit falls upon a training that runs, so that it depends on no build of torch."""
    bench.settings = bench.settings.model_copy(update={"lease_s": 60.0, "checkpoint_every_s": 600.0})
    job = bench.job(spec=TINY, resolved={})
    job_ended = bench.start_real(job, Afresh())
    assert wait_for(lambda: bench.events(job, "progress")), "the training does not begin"
    pid = training_of(bench.settings.data_dir / "scratch" / f"{job.id}-1")
    assert pid is not None
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= memory.FIRST
    size = address_space(pid)
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    assert job_ended.result(120) is Outcome.ABANDONED
    said = [event for event in bench.events(job, "log") if "code" in event]
    assert [event["code"] for event in said] == ["out_of_memory"], said
    assert "batch_size" in said[0]["message"]


@pytest.fixture
def memory_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A control group with little memory, by whichever version of them this machine has."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / "nidim-test"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(GROUP_BYTES))
            monkeypatch.setenv("TEST_MEMORY_GROUP", str(group))
            yield group
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("a control group with a memory limit needs rights that are not given here")


@pytest.mark.usefixtures("memory_group")
def test_a_training_that_the_kernel_ends_for_want_of_memory_is_reported_so(bench: Any) -> None:
    job = bench.job()
    assert bench.run(job, "hog") is Outcome.ABANDONED
    said = next(event for event in bench.events(job, "log") if "code" in event)
    assert said["code"] == "out_of_memory", said
    assert "kernel" in said["message"]


def test_the_kernel_is_read_as_it_writes(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    assert memory.oom_kills(vmstat) == 0
    vmstat.write_text("nr_free_pages 7\noom_kill 3\npgfault 4\n")
    assert memory.oom_kills(vmstat) == 3
