"""Bytes of embedding requests: said ones reserve nothing, held ones do, and one alone always gets in."""

from __future__ import annotations

import pytest

from service.inference.room import Budget, TooManyBytes


def test_what_is_held_counts_and_what_is_only_said_does_not() -> None:
    budget = Budget(100)
    with budget.admitted(100) as first, budget.admitted(100) as second:
        first.take(60)
        second.take(40)
        with pytest.raises(TooManyBytes):
            second.take(1)
        with pytest.raises(TooManyBytes), budget.admitted(1):
            pass
        with pytest.raises(TooManyBytes), second.holding(10):
            pass
        first.give(60)
        with second.holding(60):
            assert budget.taken == 100
        assert budget.taken == second.held == 40
    assert budget.taken == 0


def test_alone_a_request_gets_whatever_it_needs() -> None:
    budget = Budget(100)
    with budget.admitted(1000) as room, budget.admitted(0):
        room.take(1000)
    assert budget.taken == 0
