"""fit_generator(): the loop that trains a generator on pairs of embedding and image. No file, logger or database.

As in ``nidim.train`` every random number of a step depends on (seed, step) alone, so a resumed training gives
bit-identical weights on the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nidim.build import build_optimizer
from nidim.checkpoint import Checkpoint, capture, restore
from nidim.encoders import scale
from nidim.errors import CheckpointError
from nidim.feed import Feed
from nidim.generate.models import BETAS, Generator, Training, build_training
from nidim.hardware import autocast, choose, to_layout
from nidim.loop import Moment, Pace, Watch, run_steps
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator
from nidim.torch_defaults import own_defaults
from nidim.train import learning_rate, mixed_seed

EMA_POWER = 16
"""γ of the power-function average of weights, whose width is a share of the training: Karras et al. 2024, eq. 5."""
CLIP = 1.0
"""Largest norm of a gradient."""

Images = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Progress(Moment):
    """Where a training stands; ``loss`` averaged since the report before."""

    loss: float


@dataclasses.dataclass(frozen=True)
class FittedGenerator:
    """A trained generator, its weights averaged, in evaluation mode on the CPU. ``finished``: False if stopped."""

    model: Generator
    resolved: ResolvedGenerator
    history: list[dict[str, Any]]
    finished: bool


@dataclasses.dataclass
class _Run:
    """The moving parts of one training."""

    spec: FullGeneratorSpec
    resolved: ResolvedGenerator
    training: Training
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    feed: Feed
    scores: Scores
    generator: torch.Generator
    start: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def pace(self) -> Pace:
        return Pace(self.resolved.steps_per_epoch, self.spec.epochs, self.resolved.batch_size)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"training": self.training, "average": self.average}

    def checkpoint(self, step: int) -> Checkpoint:
        meta = {
            "step": step,
            "spec_digest": self.spec.digest,
            "resolved": self.resolved.model_dump(mode="json"),
            "history": self.history,
        }
        return capture(self.modules, self.optimizer, meta)


@own_defaults()
def fit_generator(
    spec: FullGeneratorSpec,
    resolved: ResolvedGenerator,
    images: Images,
    scores: Scores,
    *,
    on_step: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_resolved: Callable[[ResolvedGenerator], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: Checkpoint | None = None,
    checkpoint_every_s: float = 60.0,
) -> FittedGenerator:
    """Train on uint8 ``images`` (n, h, w, c) and the conditions ``scores`` (n, d) of their embeddings.

    Hooks, checkpoints and errors as those of ``nidim.train.fit``.
    """
    run = _prepare(spec, resolved, images, scores, resume)
    if on_resolved:
        on_resolved(run.resolved)

    def tell(moment: Moment, figures: dict[str, float]) -> None:
        if on_step:
            on_step(Progress(**dataclasses.asdict(moment), loss=figures["loss"]))

    watch = Watch(run.pace, run.history, tell, advice="lower optimizer.lr")
    finished = run_steps(
        run.start,
        run.pace.steps,
        lambda number: watch.saw(number, {"loss": _step(run, number)}),
        checkpoint=run.checkpoint,
        on_checkpoint=on_checkpoint,
        should_stop=should_stop,
        every_s=checkpoint_every_s,
    )
    return FittedGenerator(_serving(run), run.resolved, run.history, finished=finished)


class _Pass(nn.Module):
    """One forward pass of a training, to measure with."""

    def __init__(self, training: Training, dim: int) -> None:
        super().__init__()
        self.training_of, self.dim = training, dim

    def forward(self, images: Tensor) -> Tensor:
        generator = torch.Generator(images.device).manual_seed(0)
        scores = torch.zeros(len(images), self.dim, device=images.device)
        return self.training_of.loss(images, scores, generator=generator)


def _prepare(
    spec: FullGeneratorSpec,
    resolved: ResolvedGenerator,
    images: Images,
    scores: Scores,
    resume: Checkpoint | None,
) -> _Run:
    if resume is not None:
        if resume.meta["spec_digest"] != spec.digest:
            raise CheckpointError("The checkpoint belongs to another spec; start without it.")
        resolved = ResolvedGenerator.model_validate(resume.meta["resolved"])
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        training = build_training(spec, resolved)
    sample = to_signed(scale(torch.from_numpy(np.array(images[: resolved.batch_size]))))
    resolved = choose(spec, resolved, _Pass(training, resolved.dim), sample)
    device = torch.device(resolved.device or "cpu")
    layout = torch.channels_last if resolved.channels_last else torch.contiguous_format
    to_layout(training.to(device), layout).train()
    optimizer = build_optimizer(spec.optimizer, training)
    if spec.optimizer.kind == "adamw":
        for group in optimizer.param_groups:
            group["betas"] = BETAS[spec.model.kind]
    run = _Run(
        spec=spec,
        resolved=resolved,
        training=training,
        average=AveragedModel(training.generator, multi_avg_fn=_power_average),
        optimizer=optimizer,
        feed=Feed(
            images,
            batch_size=resolved.batch_size,
            seed=spec.seed,
            device=device,
            channels_last=bool(resolved.channels_last),
        ),
        scores=scores,
        generator=torch.Generator(device),
    )
    if resume is not None:
        restore(resume, run.modules, run.optimizer)
        run.start, run.history = int(resume.meta["step"]), list(resume.meta["history"])
    return run


@torch.no_grad()
def _power_average(
    averaged: tuple[Tensor, ...] | list[Tensor],
    current: tuple[Tensor, ...] | list[Tensor],
    count: Tensor | int,
) -> None:
    keep = (1 - 1 / (float(count) + 1)) ** (EMA_POWER + 1)
    torch._foreach_lerp_(averaged, current, 1 - keep)


def _step(run: _Run, step: int) -> Tensor:
    run.generator.manual_seed(mixed_seed(run.spec.seed, step))
    rate = learning_rate(run.spec.optimizer, step / run.pace.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    images, rows = run.feed.batch_and_rows(step)
    scores = torch.from_numpy(run.scores[rows]).to(run.feed.device)
    with autocast(run.feed.device.type, run.resolved.dtype):
        loss = run.training.loss(to_signed(images), scores, generator=run.generator)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.training.parameters(), CLIP)
    run.optimizer.step()
    run.average.update_parameters(run.training.generator)
    return loss.detach()


def to_signed(images: Tensor) -> Tensor:
    """[0, 1] to [−1, 1]."""
    return images * 2 - 1


def _serving(run: _Run) -> Generator:
    """The average as it is stored and served: evaluation mode, CPU, float32, laid out in the usual order."""
    model = cast(Generator, run.average.module if int(run.average.n_averaged) else run.training.generator)
    to_layout(model.cpu(), torch.contiguous_format).eval()
    return model
