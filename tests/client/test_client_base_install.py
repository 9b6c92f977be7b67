"""The client and its commands need the base dependencies and nothing else."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARD = """
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Guard())
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def base_distributions() -> set[str]:
    """The base dependencies and what they need themselves, without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = list(project["dependencies"]), set()
    while waiting:
        requirement = waiting.pop()
        name = canonical(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
        if "extra ==" in requirement or name in found:
            continue
        found.add(name)
        try:
            waiting += requires(name) or []
        except PackageNotFoundError:
            found.discard(name)  # for another platform or Python
    return found


@functools.cache
def forbidden() -> set[str]:
    """Every other package that is installed here."""
    base = base_distributions()
    return {
        module
        for module, owners in packages_distributions().items()
        if module not in ("nidim", "service", "worker") and not base.intersection(map(canonical, owners))
    }


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` where only the base dependencies can be imported."""
    script = GUARD.format(forbidden=forbidden()) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)


def test_the_guard_can_fail() -> None:
    assert {"torch", "scipy", "PIL", "fastapi", "sqlalchemy"} <= forbidden()
    assert not {"httpx", "numpy", "pydantic", "rich", "click"} & forbidden()
    assert "No module named 'torch'" in alone("import torch").stderr


def test_the_client_needs_only_the_base() -> None:
    done = alone("import nidim.client, nidim.client.datasets, nidim.remote.rows, nidim.remote.jobs")
    assert done.returncode == 0, done.stderr[-2000:]


def test_commands_of_the_base_work_and_the_others_say_what_they_need(tmp_path: Path) -> None:
    run = "from nidim.cli import main; main({words!r}, prog_name='nidim')"
    listed = alone(run.format(words=["--help"]))
    assert listed.returncode == 0, listed.stderr[-2000:]
    assert re.search(r"^ +jobs +Trainings at a server", listed.stdout, re.MULTILINE)
    assert re.search(r"^ +up +\(needs ", listed.stdout, re.MULTILINE)
    for words in (["up", "--port", "0"], ["evaluate", str(tmp_path)]):
        done = alone(run.format(words=words))
        assert done.returncode == 1
        assert "pip install '.[all]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_progress_is_plain_lines_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
sys.modules["rich"] = sys.modules["rich.console"] = sys.modules["rich.progress"] = None
from datetime import UTC, datetime
from nidim.client.progress import transferring, watching
from nidim.client.values import Event, JobInfo
job = JobInfo.model_construct(id="job_1", encoder="digits", metrics={})
with watching(job, show=True) as watch:
    for type_, data in (("metric", {"mi_nats": 1.5, "capacity_nats": 3.0}), ("progress", {"step": 2, "steps": 4})):
        watch(Event(id=1, type=type_, at=datetime.now(UTC), data=data))
with transferring("x.zip", show=True, moved=None) as moved:
    moved(5, 10)
"""
    done = alone(code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "digits: epoch 0/0, step 2/4, Î = 1.50 of C = 3.00 nats" in done.stderr
    assert "x.zip: 50 % of 10 bytes" in done.stderr
