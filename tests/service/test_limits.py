"""Rate and concurrency of one key, on a clock of our own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from service import limits
from service.limits import KeyLimits
from service.refusals import RateLimited, TooManyInFlight


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock, rate=10.0, burst=5, most=0):
    settings = SimpleNamespace(
        key_requests_per_s=rate, key_burst_requests=burst, key_concurrent_requests=most
    )
    return KeyLimits(settings, clock)


def test_a_burst_then_the_rate():
    clock = Clock()
    bucket = make(clock)
    for _ in range(5):
        bucket.enter("a")()
    with pytest.raises(RateLimited) as refused:
        bucket.enter("a")
    assert refused.value.retry_after_s == pytest.approx(0.1)
    bucket.enter("b")()
    clock.now += refused.value.retry_after_s + 1e-9
    bucket.enter("a")()
    with pytest.raises(RateLimited):
        bucket.enter("a")
    clock.now += 1000
    for _ in range(5):
        bucket.enter("a")()
    with pytest.raises(RateLimited):
        bucket.enter("a")


def test_over_a_long_time_the_rate_holds():
    clock = Clock()
    bucket = make(clock, rate=3.0, burst=2)
    passed = 0
    for _ in range(1000):
        clock.now += 0.05
        try:
            bucket.enter("a")()
            passed += 1
        except RateLimited:
            continue
    assert passed == pytest.approx(3.0 * 50, abs=3)


def test_requests_in_flight_are_bounded_and_leave():
    bucket = make(Clock(), rate=0, most=2)
    first, second = bucket.enter("a"), bucket.enter("a")
    with pytest.raises(TooManyInFlight):
        bucket.enter("a")
    bucket.enter("b")
    first()
    third = bucket.enter("a")
    for leave in (second, third):
        leave()
    for _ in range(100):
        bucket.enter("a")()


def test_a_refused_request_takes_no_place():
    bucket = make(Clock(), rate=1.0, burst=1, most=1)
    bucket.enter("a")()
    for _ in range(3):
        with pytest.raises(RateLimited):
            bucket.enter("a")
    assert bucket._accounts["a"].in_flight == 0


def test_zero_is_no_limit():
    bucket = make(Clock(), rate=0, burst=1, most=0)
    for _ in range(10_000):
        bucket.enter("a")


def test_idle_accounts_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(limits, "MOST", 3)
    clock = Clock()
    bucket = make(clock, rate=1.0, burst=10)
    bucket.enter("busy")
    for name in "ab":
        bucket.enter(name)()
    clock.now += 5
    bucket.enter("recent")()
    clock.now += 7
    bucket.enter("new")()
    assert set(bucket._accounts) == {"busy", "recent", "new"}
