"""The watch over a running training: it speaks when it must, once, and is silent over a good training."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from worker.watch import RECENT, Watch


@dataclass(frozen=True)
class Seen:
    step: int
    steps: int
    mi_nats: float
    loss: float
    capacity_nats: float | None = 5.0
    epps_pulley: float | None = None


def codes(nats: list[float], *, losses: list[float] | None = None, capacity: float | None = 5.0) -> list[str]:
    watch, said = Watch(), []
    losses = losses or [-value for value in nats]
    for step, (value, loss) in enumerate(zip(nats, losses, strict=True), start=1):
        said += [code for code, _ in watch.see(Seen(step, len(nats), value, loss, capacity))]
    return said


def test_a_good_training_is_not_commented() -> None:
    assert codes([4.6 * (1 - 0.9**step) for step in range(100)]) == []


def test_without_noise_no_capacity_is_exceeded() -> None:
    assert codes([0.2 * step for step in range(60)], capacity=None) == []


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        ([0.3 * step for step in range(60)], "information_above_capacity"),
        ([0.2 * step for step in range(20)] + [0.1] * 40, "information_collapsed"),
        ([0.01] * 60, "nothing_learned"),
    ],
)
def test_what_goes_wrong_is_said_once(nats: list[float], expected: str) -> None:
    assert codes(nats).count(expected) == 1


def test_a_second_stage_is_not_compared_with_the_first() -> None:
    """64 dimensions carry 5.6 nats, the two of the second stage begin with less than a quarter of that."""
    watch, said = Watch(), []
    reports = [(5.6, 33.0)] * 40 + [(1.0 + 0.02 * step, 3.3) for step in range(60)]
    for step, (nats, capacity) in enumerate(reports, start=1):
        said += watch.see(Seen(step, len(reports), nats, -nats, capacity))
    assert said == []
    assert "information_collapsed" in codes([5.6] * 40 + [1.0] * 60)


def distances(values: list[float]) -> list[str]:
    watch = Watch()
    seen = (Seen(step, len(values), 4.0, -4.0, epps_pulley=value) for step, value in enumerate(values))
    return [code for report in seen for code, _ in watch.see(report)]


def test_embeddings_that_leave_their_law_are_noticed_once() -> None:
    coming = [40 * 0.8**step + 0.5 for step in range(40)]
    assert distances(coming + [0.5 + 0.4 * (step % 2) for step in range(20)]) == []
    assert distances([*coming, *[12.0] * 20]) == ["matching_collapsed"]


def test_a_law_without_that_distance_is_not_judged_by_it() -> None:
    assert [code for step in range(60) for code, _ in Watch().see(Seen(step, 60, 4.0, -4.0))] == []


def test_a_loss_that_jumps_is_said_once() -> None:
    small = [0.0, -5.0] + [-5.0 + step % 2 for step in range(40)]
    assert codes([1.0] * 42, losses=small).count("loss_unstable") == 0
    large = [0.0, -1.0] + [-1.0 + 3.0 * (step % 2) for step in range(40)]
    assert codes([1.0] * 42, losses=large).count("loss_unstable") == 1


def test_a_short_look_is_no_ground_for_a_verdict() -> None:
    assert codes([0.0] * (RECENT - 1)) == []
