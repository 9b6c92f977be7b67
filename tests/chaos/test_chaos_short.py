"""The short form of `make chaos`: both columns at once, a handful of faults, every invariant."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos import campaign, report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a stack in /proc"),
    pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR"),  # platformdirs; stacks start in threads
    pytest.mark.timeout(900),  # for a busy machine; an idle one needs less than a minute
]

FAULTS = {
    "embedded": ("kill_worker", "empty_redis"),
    "servers": ("kill_postgresql", "kill_training"),
}


def test_nothing_is_lost_doubled_torn_or_orphaned(tmp_path: Path) -> None:
    def shake(column: str) -> campaign.Result:
        plan = campaign.Plan(
            column=column, seed=0, names=FAULTS[column], short=True, epochs=6, seeds=1, jobs=1, disks=False
        )
        (tmp_path / column).mkdir()
        return campaign.run(plan, tmp_path / column)

    with ThreadPoolExecutor() as both:
        results = list(both.map(shake, FAULTS))
    for column, result in zip(FAULTS, results, strict=True):
        assert not result.violations, report.table(result) + report.whereabouts(tmp_path / column)
        assert len(result.hits) == len(result.plan["names"]), result.missed
        assert result.counts["weights_compared"] >= 1
        assert set(result.counts["states"]) <= {"succeeded", "cancelled"}, report.table(result)
