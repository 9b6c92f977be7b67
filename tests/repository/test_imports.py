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
    ["service.launcher", "worker.app", "worker.tasks", "nidim.drift", "nidim.conformal", "nidim.noisy"],
)
def test_what_needs_no_torch_loads_none(module: str) -> None:
    assert not loaded_by(f"import {module}").intersection({"torch", "torchvision"})


def test_a_server_without_an_encoder_loads_no_scipy_and_a_decoder_no_spec() -> None:
    """What they do not load they neither wait for nor hold: 18 MB, 20 MB a decoder."""
    assert not loaded_by("import service.app").intersection(HEAVY)
    assert not loaded_by("import service.inference.decoder").intersection((*HEAVY, "pydantic"))


def test_an_encoder_is_loaded_without_what_exporting_needs() -> None:
    """SymPy alone takes a third of a second."""
    assert not loaded_by("import nidim.bundle").intersection({"sympy", "onnx", "onnxscript"})


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
    assert "torch" in loaded_by("import nidim.build")
    assert "pydantic" in loaded_by("from nidim.data import Index")


def test_the_arrows_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
