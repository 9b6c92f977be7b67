"""A file with a failed test is tried once more, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import again
from tests.blocks import ROOT

FAILS_ONCE = """
from pathlib import Path
def test_stands(): Path("stood").touch()
def test_once(): assert Path("stood").unlink() is None and Path("tried").exists() or Path("tried").touch()
"""


def pytest_in(folder: Path, *words: str) -> int:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True).returncode


def test_the_whole_file_of_what_failed_passes_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "test_waits.py").write_text(FAILS_ONCE)
    (tmp_path / "test_other.py").write_text("def test_passes(): pass\n")
    assert pytest_in(tmp_path, "--numprocesses", "2", "--dist", "loadfile") == 1
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-m", "tests.again"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (said.returncode, said.stdout.split()) == (0, ["test_waits.py"])
    assert pytest_in(tmp_path, *said.stdout.split()) == 0


@pytest.mark.parametrize("names", [None, [], [f"tests/test_{i}.py::test_x" for i in range(again.MOST + 1)]])
def test_nothing_is_tried_again_where_all_is_wrong_or_nothing_known(
    names: list[str] | None, tmp_path: Path
) -> None:
    cache = tmp_path / "lastfailed"
    if names is not None:
        cache.write_text(json.dumps(dict.fromkeys(names, True)))
    assert again.files(cache) == []


def test_a_file_that_cannot_be_imported_is_one_of_them(tmp_path: Path) -> None:
    cache = tmp_path / "lastfailed"
    cache.write_text(
        json.dumps({"tests/b.py": True, "tests/a.py::test_x[1]": True, "tests/a.py::test_y": True})
    )
    assert again.files(cache) == ["tests/a.py", "tests/b.py"]
