"""A training's steps on the clock: the real fit, the limit, and where the time of a step goes."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.speed.training_sets import Training
from nidim.build import build_optimizer
from nidim.capacity import Resolved
from nidim.checkpoint import Checkpoint, save_checkpoint
from nidim.critics import FactoredCritic
from nidim.encoders import EncoderModel
from nidim.methods import base
from nidim.train import Progress, fit

WARM_UP_STEPS = 1
CHECKPOINT_EVERY_S = 60.0
"""As fit and the worker have it."""
FORWARD, BACKWARD, LOSS = "encoder forward", "encoder backward", "noise, critic, loss"
PARTS = ("augmentation", FORWARD, LOSS, BACKWARD, "optimiser")


class Stopwatch:
    """Hooks of a real fit that stop it when ``steps`` were timed; what logs and checkpoints cost is in it."""

    def __init__(
        self, training: Training, folder: Path, *, steps: int, on_begin: Callable[[], None] | None = None
    ) -> None:
        self.training, self.path, self.steps = training, folder / "checkpoint.safetensors", steps
        self.on_begin = on_begin
        self.calls, self.began, self.ended, self.saved_s = 0, 0.0, 0.0, 0.0
        self.log: list[Progress] = []

    def should_stop(self) -> bool:
        self.calls += 1
        if self.calls == WARM_UP_STEPS + 1:
            if self.on_begin:
                self.on_begin()
            synchronise()
            self.began = time.perf_counter()
        if self.calls <= WARM_UP_STEPS + self.steps:
            return False
        synchronise()
        self.ended = time.perf_counter()
        return True

    def keep(self, checkpoint: Checkpoint) -> None:
        save_checkpoint(checkpoint, self.path)
        self.saved_s = time.perf_counter() - self.ended

    def chosen(self, resolved: Resolved) -> None:
        self.training.resolved = resolved

    @property
    def seconds(self) -> float:
        """Of the timed steps, with their share of a checkpoint that is written every minute."""
        return (self.ended - self.began) * (1 + self.saved_s / CHECKPOINT_EVERY_S)


def synchronise() -> None:
    """Wait for the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_fit(training: Training, *, steps: int, on_begin: Callable[[], None] | None = None) -> Stopwatch:
    """nidim's own training with everything on; the machine's choices are made by the first and then kept."""
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch(training, Path(folder), steps=steps, on_begin=on_begin)
        fit(
            training.spec,
            training.resolved,
            training.images,
            heldout=training.images[:0],
            on_step=watch.log.append,
            on_checkpoint=watch.keep,
            on_resolved=watch.chosen,
            should_stop=watch.should_stop,
            checkpoint_every_s=float("inf"),  # the one at the end is timed, and counts by its share
        )
        return watch


def limit(training: Training, images: tuple[Tensor, Tensor], *, steps: int) -> float:
    """Seconds of forward, backward and optimiser of the same encoder on two batches that are there already."""
    model = training.encoder
    return bare_steps(model, build_optimizer(training.spec.optimizer, model), *images, steps=steps)


def limit_of_all(training: Training, images: tuple[Tensor, Tensor], *, steps: int) -> float:
    """As ``limit``, with head and critic, which are trained beside the encoder."""
    model, method = training.encoder, training.method
    optimizer = build_optimizer(training.spec.optimizer, model, method)

    def outputs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        heads = method.head(model.raw(first)), method.head(model.raw(second))
        critic = getattr(method, "critic", None)
        return critic.factors(*heads) if isinstance(critic, FactoredCritic) else heads

    return _timed(outputs, optimizer, *images, steps=steps)


def bare_steps(
    model: EncoderModel, optimizer: torch.optim.Optimizer, first: Tensor, second: Tensor, *, steps: int
) -> float:
    """Seconds of ``steps`` times forward, backward and optimiser on two batches, after one that does not count."""
    return _timed(lambda a, b: (model.raw(a), model.raw(b)), optimizer, first, second, steps=steps)


def _timed(
    outputs: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    first: Tensor,
    second: Tensor,
    *,
    steps: int,
) -> float:
    began = 0.0
    for number in range(steps + 1):
        if number == 1:
            synchronise()
            began = time.perf_counter()
        one, other = outputs(first, second)
        loss = one.sum() + other.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    synchronise()
    return time.perf_counter() - began


class Parts:
    """Seconds of a fit by what they were spent on."""

    def __init__(self) -> None:
        self.mark, self.before_encoder = 0.0, False
        self.reset()

    def reset(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.set_mark()

    def set_mark(self) -> None:
        synchronise()
        self.mark = time.perf_counter()

    def add(self, name: str) -> None:
        """What was done since the mark is ``name``; the mark moves to now."""
        before = self.mark
        self.set_mark()
        self.seconds[name] += self.mark - before

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` on the clock."""

        def timed(*given: Any, **more: Any) -> Any:
            self.set_mark()
            found = function(*given, **more)
            self.add(name)
            return found

        return timed

    def forward(self, raw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``EncoderModel.raw``, and the moment at which its gradient arrives in the backward pass."""
        timed = self.around(FORWARD, raw)

        def watched(*given: Any, **more: Any) -> Tensor:
            found: Tensor = timed(*given, **more)
            if found.requires_grad:
                found.register_hook(self.arrived)
            return found

        return watched

    def arrived(self, _gradient: Tensor) -> None:
        """All that comes after the encoder goes backward before the first of its two passes does."""
        self.add(LOSS if self.before_encoder else BACKWARD)
        self.before_encoder = False

    def backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        """``Tensor.backward``; between it and the last forward pass were noise, critic and loss."""

        def timed(*given: Any, **more: Any) -> None:
            self.add(LOSS)
            self.before_encoder = True
            backward(*given, **more)
            self.add(BACKWARD)

        return timed


@contextlib.contextmanager
def clocked() -> Iterator[Parts]:
    """Within the context the pieces of every step are timed."""
    parts, adamw = Parts(), torch.optim.AdamW
    with (
        mock.patch.object(base, "augment", parts.around("augmentation", base.augment)),
        mock.patch.object(EncoderModel, "raw", parts.forward(EncoderModel.raw)),
        mock.patch.object(Tensor, "backward", parts.backward(Tensor.backward)),
        mock.patch.object(adamw, "step", parts.around("optimiser", adamw.step)),
    ):
        yield parts


def shares(training: Training, *, steps: int) -> dict[str, float]:
    """Seconds a step by what they are spent on; ``rest``: reading, scaling, seeds, rates, logs, hooks."""
    with clocked() as parts:
        watch = run_fit(training, steps=steps, on_begin=parts.reset)
    found = {name: seconds / steps for name, seconds in parts.seconds.items()}
    return {**found, "rest": (watch.ended - watch.began) / steps - sum(found.values())}
