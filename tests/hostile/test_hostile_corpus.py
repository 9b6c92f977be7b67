"""The corpus in short: one mutant of every family and some more, each answered as documented.

What an upload holds is judged by a process that knows no store, so that the second column needs a few of them alone.
"""

from __future__ import annotations

from benchmarks.hostile.attack import attack
from benchmarks.hostile.corpus import FAMILIES, mutants, uploads
from benchmarks.hostile.stack import Stack

EVERY = {"embedded": 1, "servers": 5}
"""Which of the families that upload."""
MORE = {"embedded": 16, "servers": 0}
"""Beyond one of every family."""


def test_every_family_is_answered_as_documented(hostile_server: Stack, column: str) -> None:
    outcome = attack(hostile_server, mutants(len(FAMILIES) + MORE[column], seed=0, every=EVERY[column]))
    assert [f"{f.number} {f.family}: {f.why}" for f in outcome.failures] == []
    left = [family for family in FAMILIES if family.name not in outcome.tallies]
    assert all(map(uploads, left))
    assert (len(left) > 0) == (EVERY[column] > 1)
    assert len(left) < sum(map(uploads, FAMILIES)), "some of them in each column"
    assert not [t for t in outcome.tallies.values() for status in t.statuses if status.startswith("5")]
    assert outcome.peak_mb["api"] < 1500
    assert outcome.peak_mb["decoder"] < 1500
    assert outcome.peak_mb["ingest"] < 3500


def test_a_mutant_is_the_same_every_time() -> None:
    first, again = ([repr(m) for m in mutants(30, seed=3)] for _ in range(2))
    assert first == again
    assert first != [repr(m) for m in mutants(30, seed=4)]
