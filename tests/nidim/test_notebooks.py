"""The notebooks of the library run, on real digits, and are kept without what they printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import notebooks

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"
ALL = sorted(FOLDER.glob("*.ipynb"))


def run(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """What the runner makes of notebooks, in a process of its own, in ``folder``."""
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.notebooks", *map(str, paths)]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)


def test_an_encoder_its_law_and_a_generator_of_ones_own(tmp_path: Path) -> None:
    done = run(tmp_path, FOLDER / "law.ipynb", FOLDER / "generator.ipynb")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Î [12]\.\d\d of at most 3\.26 nats", done.stdout)
    held = re.search(r"held out: p ≤ \.05 for (\d+) %", done.stdout)
    assert held is not None
    assert int(held[1]) <= 5
    drawn = re.search(r"again (\d\.\d\d) from the draw; two draws are (\d\.\d\d) apart", done.stdout)
    assert drawn is not None
    assert float(drawn[1]) < float(drawn[2]) / 2


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_nothing_that_was_printed_is_kept(path: Path) -> None:
    found = notebooks.cells(path)
    assert len(found) >= 4
    assert [(cell["outputs"], cell["execution_count"]) for cell in found] == [([], None)] * len(found)
    assert len(notebooks.cells(path, "markdown")) >= 3


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    sources = (["x = 1\n", "print(x)"], ["assert x == 2"], ["print('never')"])
    cells = [{"cell_type": "code", "source": source} for source in sources]
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "cells": cells}))
    done = run(tmp_path, path)
    assert done.returncode != 0
    assert done.stdout == "1\n"
    assert 'File "wrong.ipynb, code cell 2", line 1' in done.stderr
