"""What every training loop does around its steps: stop when asked, keep checkpoints, average what it saw, tell it.

It owns no file, logger or database; hooks carry progress out and cancelling in.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nidim.checkpoint import Checkpoint
from nidim.errors import TrainingDiverged

REPORT_EVERY_S = 1.0
HISTORY_POINTS = 400
"""Of the curve that is kept, however long the training."""


class Pace(NamedTuple):
    """How long a training is."""

    steps_per_epoch: int
    epochs: int
    batch_size: int

    @property
    def steps(self) -> int:
        """In all."""
        return self.steps_per_epoch * self.epochs


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where a training stands."""

    step: int
    steps: int
    epoch: int
    epochs: int
    images_per_s: float
    eta_s: float
    elapsed_s: float


def run_steps(
    start: int,
    steps: int,
    step: Callable[[int], None],
    *,
    checkpoint: Callable[[int], Checkpoint],
    on_checkpoint: Callable[[Checkpoint], None] | None,
    should_stop: Callable[[], bool] | None,
    every_s: float,
) -> bool:
    """``step`` for each number in [start, steps); False if it was stopped before the last.

    A checkpoint is made every ``every_s`` seconds, when ``should_stop`` says so and after the last step, so that what
    follows can be repeated without training again; not where nothing was left to do.
    """
    saved = time.monotonic()
    for number in range(start, steps):
        if should_stop and should_stop():
            if on_checkpoint:
                on_checkpoint(checkpoint(number))
            return False
        if on_checkpoint and time.monotonic() - saved > every_s:
            on_checkpoint(checkpoint(number))
            saved = time.monotonic()
        step(number)
    if on_checkpoint and start < steps:
        on_checkpoint(checkpoint(steps))
    return True


class Watch:
    """Averages the figures of steps, the loss among them: once a second to ``tell``, at fixed steps to ``history``.

    Raises TrainingDiverged, with ``advice``, where the loss is not finite.
    """

    def __init__(
        self,
        pace: Pace,
        history: list[dict[str, Any]],
        tell: Callable[[Moment, dict[str, float]], None],
        *,
        advice: str,
    ) -> None:
        self.pace, self.history, self.tell, self.advice = pace, history, tell, advice
        self.began = self.told = time.monotonic()
        self.every = max(1, pace.steps // HISTORY_POINTS)
        self.earlier_s = history[-1]["elapsed_s"] if history else 0.0
        self.recent: list[dict[str, Tensor]] = []
        self.kept: list[dict[str, Tensor]] = []

    def saw(self, step: int, figures: dict[str, Tensor]) -> None:
        """One step is done; ``figures``: scalars, left on their device."""
        self.recent.append(figures)
        self.kept.append(figures)
        done, last, now = step + 1, step + 1 == self.pace.steps, time.monotonic()
        if last or done % self.every == 0:
            elapsed_s = self.earlier_s + now - self.began
            place = {"step": done, "epoch": done / self.pace.steps_per_epoch}
            self.history.append({**place, **means(self.kept), "elapsed_s": elapsed_s})
            self.kept.clear()
        if last or now - self.told >= REPORT_EVERY_S:
            self._report(done, now)

    def _report(self, done: int, now: float) -> None:
        found = means(self.recent)
        speed = len(self.recent) * self.pace.batch_size / max(now - self.told, 1e-9)
        self.recent.clear()
        self.told = now
        if not math.isfinite(found["loss"]):
            raise TrainingDiverged(f"The loss is {found['loss']} at step {done}; {self.advice}.")
        pace = self.pace
        moment = Moment(
            step=done,
            steps=pace.steps,
            epoch=min(done // pace.steps_per_epoch + 1, pace.epochs),
            epochs=pace.epochs,
            images_per_s=speed,
            eta_s=(pace.steps - done) * pace.batch_size / max(speed, 1e-9),
            elapsed_s=self.earlier_s + now - self.began,
        )
        self.tell(moment, found)


def means(seen: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each figure, by one transfer from the device."""
    names = list(seen[0])
    table = torch.stack([torch.stack([figures[name] for name in names]) for figures in seen])
    values: list[float] = table.mean(0).tolist()
    return dict(zip(names, values, strict=True))
