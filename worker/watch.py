"""Watch: looks at a training while it runs and says, once each, what seems wrong and what to do about it.

The rules are plain and on the cautious side; none of them stops a training.

    information_above_capacity   the bound estimates more nats than the channel can carry: the estimate is broken
    information_collapsed        it had learned to tell images apart and no longer does
    matching_collapsed           the embeddings had come close to their law and have left it
    nothing_learned              a quarter of the training is over and images cannot be told apart
    loss_unstable                the loss jumps up and down by more than all that the training has gained
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

RECENT = 8
"""Reports that a rule looks back over."""
LEARNED_NATS, NOTHING_NATS = 0.5, 0.05
EXCESS, EXCESS_NATS = 1.05, 0.2
AWAY, TRUE_DRAWS = 4.0, 0.42
"""Times the smallest distance so far; the sliced Epps–Pulley distance of true draws, whatever their number."""


class Report(Protocol):
    """What is read of a ``nidim.train.Progress``."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def mi_nats(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def capacity_nats(self) -> float | None: ...
    @property
    def epps_pulley(self) -> float | None: ...


class Watch:
    """Feed it every report; it yields new warnings as (code, detail)."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._recent: deque[Report] = deque(maxlen=RECENT)
        self._first_loss: float | None = None
        self._best_nats = 0.0
        self._nearest = math.inf

    def see(self, report: Report) -> list[tuple[str, str]]:
        """The warnings that this report gives rise to, each code only once in a training."""
        if self._recent and self._recent[-1].capacity_nats != report.capacity_nats:
            self._begin()  # another stage: what it learns is not to be compared with the one before
        self._recent.append(report)
        if self._first_loss is None:
            self._first_loss = report.loss
        fresh = [(code, detail) for code, detail in self._rules(report) if code not in self._said]
        self._said.update(code for code, _ in fresh)
        self._best_nats = max(self._best_nats, report.mi_nats)
        return fresh

    def _rules(self, report: Report) -> Iterator[tuple[str, str]]:
        if len(self._recent) < RECENT:
            return
        nats = [seen.mi_nats for seen in self._recent]
        capacity = report.capacity_nats
        if capacity is not None and min(nats) > EXCESS * capacity + EXCESS_NATS:
            yield (
                "information_above_capacity",
                f"The bound says {report.mi_nats:.2f} nats, the channel carries at most {capacity:.2f}: its "
                "variance is too high to be believed. Use the infonce objective, a larger batch_size or "
                "a lower optimizer.lr.",
            )
        if self._best_nats > LEARNED_NATS and max(nats) < self._best_nats / 4:
            yield (
                "information_collapsed",
                f"The information fell from {self._best_nats:.2f} to {report.mi_nats:.2f} nats and stays there. "
                "Lower optimizer.lr, or raise the noise.",
            )
        if report.step > report.steps / 4 and max(nats) < NOTHING_NATS:
            yield (
                "nothing_learned",
                f"After {report.step} of {report.steps} steps the views of an image share {report.mi_nats:.3f} nats. "
                "Use a milder augmentation, less noise, or another optimizer.lr.",
            )
        yield from self._matching()
        yield from self._unstable()

    def _matching(self) -> Iterator[tuple[str, str]]:
        distances = [seen.epps_pulley for seen in self._recent if seen.epps_pulley is not None]
        if len(distances) < RECENT:
            return
        self._nearest = min(self._nearest, statistics.median(distances))
        if min(distances) > max(AWAY * self._nearest, AWAY * TRUE_DRAWS):
            yield (
                "matching_collapsed",
                f"The distance of the embeddings from their law was {self._nearest:.1f} and is now {distances[-1]:.1f} "
                f"(true draws: {TRUE_DRAWS}). Lower optimizer.lr, raise the noise, or add a regularizer.",
            )

    def _unstable(self) -> Iterator[tuple[str, str]]:
        assert self._first_loss is not None
        losses = [seen.loss for seen in self._recent]
        gained = abs(self._first_loss - min(losses))
        steps = [abs(after - before) for before, after in pairwise(losses)]
        if gained > LEARNED_NATS and statistics.median(steps) > gained:
            yield (
                "loss_unstable",
                f"The loss jumps by {statistics.median(steps):.2f} between reports, more than it has fallen in all. "
                "Lower optimizer.lr or use a larger batch_size.",
            )
