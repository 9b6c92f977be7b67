"""Light modules stay light, and the arrows between the rooms hold."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "pyarrow", "matplotlib")
ROOT = Path(__file__).resolve().parents[2]


LIGHT = (
    "nidim.errors",
    "nidim.spec",
    "nidim.capacity",
    "nidim.given",
    "nidim.cli",
    "nidim.demo",
    "service.app",
)
WITHOUT_TORCH = (
    *("service.launcher", "worker.app", "worker.tasks"),
    *("nidim.drift", "nidim.conformal", "nidim.noisy"),
)


@functools.cache
def loaded_in_turn(*statements: str) -> list[set[str]]:
    """The top-level packages in memory after each of the statements, one after another in a fresh interpreter."""
    told = "print(' '.join({m.split('.')[0] for m in sys.modules}))"
    code = "\n".join(("import sys", *(f"{statement}\n{told}" for statement in statements)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in memory after ``statement`` in a fresh interpreter."""
    return loaded_in_turn(statement)[0]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    """Neither one nor all that come before it."""
    loaded = loaded_in_turn(*(f"import {light}" for light in LIGHT))
    assert not loaded[LIGHT.index(module)].intersection(HEAVY)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_needs_no_torch_loads_none(module: str) -> None:
    """Neither one nor all that come before it."""
    loaded = loaded_in_turn(*(f"import {light}" for light in WITHOUT_TORCH))
    assert not loaded[WITHOUT_TORCH.index(module)].intersection({"torch", "torchvision"})


def test_a_decoder_loads_no_spec() -> None:
    """What it does not load it neither waits for nor holds: 20 MB a decoder, and 18 MB a server without SciPy."""
    assert not loaded_by("import service.inference.decoder").intersection((*HEAVY, "pydantic"))


def test_an_encoder_is_loaded_without_what_exporting_needs() -> None:
    """SymPy alone takes a third of a second."""
    assert not loaded_by("import nidim.bundle").intersection({"sympy", "onnx", "onnxscript"})


def test_a_generator_is_loaded_without_what_evaluating_needs() -> None:
    """scipy.stats and scikit-learn: as much again as torch and the rest."""
    code = "import sys, nidim.generate.bundle; print('scipy.stats' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_alembic_is_loaded_where_there_is_something_to_migrate(tmp_path: Path) -> None:
    opens = (
        "from service.settings import Settings; from service.store import open_store\n"
        f"open_store(Settings(data_dir={str(tmp_path)!r})).close()"
    )
    assert "alembic" in loaded_by(opens)
    assert "alembic" not in loaded_by(f"{opens}\nimport service.app, worker.app")


def test_the_names_of_the_data_room_are_there() -> None:
    import nidim.data

    assert all(getattr(nidim.data, name).__module__.startswith("nidim") for name in ["Index", "ingest"])
    assert all(hasattr(nidim.data, name) for name in nidim.data.__all__)
    assert not hasattr(nidim.data, "nothing")


def test_the_check_can_fail() -> None:
    assert "torch" in loaded_by("import nidim.bundle")
    assert "pydantic" in loaded_by("from nidim.data import Index")


def test_the_arrows_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
