"""What a campaign counts, without a stack: which failures are excused, which events were read, what is pooled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from tests.chaos import campaign, pool, report, verdicts
from tests.chaos.faults import of_column
from tests.chaos.load import Failure, kind_of, kind_of_answer
from tests.chaos.readers import events_in


def faults(*names: str, column: str = "servers") -> list[verdicts.Window]:
    """One every ten seconds."""
    known = {fault.name: fault for fault in of_column(column)}
    return [(10.0 * number, known[name]) for number, name in enumerate(names)]


def test_a_cut_embedding_is_excused_by_a_kill_of_the_api_alone() -> None:
    windows = faults("kill_api", "term_api", "deploy")
    under = [Failure(began, began + 1, "cut", "x") for began in (2, 12, 22)]
    assert [words.split(":")[0] for words in verdicts.unexcused(under, windows)] == [
        "an embedding cut under term_api",
        "an embedding cut under deploy",
    ]
    assert not list(verdicts.unexcused([Failure(9, 12, "cut", "began before")], windows))
    assert verdicts.by_fault(under, windows) == {
        "kill_api": {"cut": 1},
        "term_api": {"cut": 1},
        "deploy": {"cut": 1},
    }


def test_whole_stack_that_stops_may_refuse_but_not_cut() -> None:
    windows = faults("deploy", column="embedded")
    kinds = ("refused", "reset", "cut", "failed")
    found = list(verdicts.unexcused([Failure(1, 2, kind, "x") for kind in kinds], windows))
    assert [words.split()[2] for words in found] == ["cut", "failed"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError(""), "refused"),
        (httpx.ReadError(""), "reset"),
        (httpx.RemoteProtocolError(""), "cut"),
        (httpx.ReadTimeout(""), "late"),
    ],
)
def test_kinds_of_failures(error: httpx.HTTPError, kind: str) -> None:
    assert kind_of(error) == kind


def test_a_503_says_when_to_come_back_or_has_failed() -> None:
    assert kind_of_answer(httpx.Response(503, headers={"Retry-After": "1"})) == "unavailable"
    assert kind_of_answer(httpx.Response(503)) == kind_of_answer(httpx.Response(500)) == "failed"


def test_a_message_that_was_cut_off_is_not_heard() -> None:
    lines = [
        "retry: 1000",
        "",
        "id: 1",
        "event: state",
        "data: {}",
        "",
        ": still here",
        "",
        "id: 2",
        "event: log",
    ]
    assert list(events_in(iter(lines))) == [(1, "state", "{}")]


def test_a_run_without_its_checks_is_named_and_not_counted(tmp_path: Path) -> None:
    plan = {"column": "servers", "seed": 1}
    hit = campaign.Hit(name="kill_api", at_s=1, lasted_s=0, recovery_s=2, outage_s=2, recovered=True)
    keeper = report.Keeper(tmp_path, ["--seed", "1"])
    partial = campaign.Result(plan=plan, hits=[hit])
    keeper.keep(partial)
    assert "ended before its checks after 1 faults" in pool.write(tmp_path).read_text()
    counts = {"embed_failures": {"kill_api": {"cut": 3}}, "states": {}, "failures": [], "upload_failures": {}}
    whole = campaign.Result(
        **{**asdict(partial), "hits": [hit] * 2, "plan": {**plan, "seed": 2}, "complete": True}
    )
    whole.counts = {**counts, "seconds": 60}
    keeper.keep(whole)
    page = pool.write(tmp_path).read_text()
    assert "**2 faults, 0 violations** in 1 runs." in page
    assert "| kill_api | 2 | 2.0 | 2.0 | 2.0 | 2.0 | 3 cut |" in page
