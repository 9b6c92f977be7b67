"""Schemathesis in short: a few examples of every operation and a few steps from one to the next, all checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hostile import schema

SHORT = ("--phases", "fuzzing,stateful", "--no-shrink")
EXAMPLES = 3


@pytest.mark.parametrize("run", schema.RUNS[:1], ids=lambda run: run.name)
def test_every_operation_is_as_its_description_says(run: schema.Run, tmp_path: Path) -> None:
    with schema.serving(tmp_path, run, versions=10) as server:
        found = schema.run_one(server, run, seed=None, examples=EXAMPLES, more=SHORT)
    assert found.status == 0, found.text[-10_000:]
    assert found.figures["operations"]["tested"] == found.figures["operations"]["selected"] > 30
    assert found.figures["test_cases"]["generated"] > 100
    assert found.figures["phases"]["stateful"]["status"] == "success"
