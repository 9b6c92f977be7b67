"""Light modules stay light, and the arrows between the rooms hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "pyarrow", "matplotlib")
ROOT = Path(__file__).resolve().parents[2]


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in memory after ``statement`` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["nidim.spec", "nidim.capacity", "nidim.cli", "nidim.demo", "nidim.errors", "nidim.given"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}").intersection(HEAVY)


@pytest.mark.parametrize(
    "module",
    ["service.app", "service.launcher", "worker.app", "worker.tasks", "nidim.drift", "nidim.conformal"],
)
def test_what_needs_no_torch_loads_none(module: str) -> None:
    assert not loaded_by(f"import {module}").intersection({"torch", "torchvision"})


def test_the_check_can_fail() -> None:
    assert "torch" in loaded_by("import nidim.build")


def test_the_arrows_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
