"""fit(): one readable loop. It owns no file, logger or database; hooks carry progress out and cancelling in."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nidim.build import build_encoder, build_method, build_optimizer
from nidim.capacity import Resolved
from nidim.checkpoint import Checkpoint, capture, restore
from nidim.encoders import EncoderModel, scale
from nidim.errors import CheckpointError
from nidim.feed import Batch, Feed
from nidim.hardware import choose, to_layout
from nidim.loop import Moment, Pace, Watch, run_steps
from nidim.methods import Method
from nidim.regularizers import Term, build_regularizer, sliced_epps_pulley
from nidim.spec import FullSpec
from nidim.spec.parts import Optimizer
from nidim.statistics import recompute_statistics
from nidim.torch_defaults import own_defaults
from nidim.world import ALONE, World

WARM_UP = 0.25  # of a one-cycle schedule
SLICES_SHOWN = 64  # of the distance that a report of progress shows
HELD_OUT = 5  # of the stream of random numbers that orders held-out images

Images = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Progress(Moment):
    """Where a training stands. Information in nats; loss and information averaged since the report before.

    ``epps_pulley``: sliced Epps–Pulley distance of the last batch's clean latents from N(0, I), about .42 for true
    draws; None where another law than a Gaussian one is trained.
    """

    mi_nats: float
    loss: float
    capacity_nats: float | None
    epps_pulley: float | None


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained encoder, in evaluation mode on the CPU, and how it came about.

    ``mi_nats``: the trained bound on I(f(X'); f(X)+Z) over held-out images. ``finished``: False if stopped.
    """

    model: EncoderModel
    resolved: Resolved
    history: list[dict[str, Any]]
    mi_nats: float | None
    finished: bool


@dataclasses.dataclass
class _Run:
    """The moving parts of one training."""

    spec: FullSpec
    resolved: Resolved
    model: EncoderModel
    method: Method
    term: Term | None
    optimizer: torch.optim.Optimizer
    feed: Feed
    generator: torch.Generator
    world: World = ALONE
    start: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    clean: Tensor | None = None
    """Latents of the last batch, for the distance that a report shows."""

    @property
    def pace(self) -> Pace:
        return Pace(self.feed.steps_per_epoch, self.spec.epochs, self.resolved.batch_size)

    @property
    def steps(self) -> int:
        return self.pace.steps

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        found: dict[str, torch.nn.Module] = {"model": self.model, "method": self.method}
        return found if self.term is None else {**found, "term": self.term}

    def checkpoint(self, step: int) -> Checkpoint:
        meta = {
            "step": step,
            "spec_digest": self.spec.digest,
            "resolved": self.resolved.model_dump(mode="json"),
            "history": self.history,
            **({"ranks": self.world.size} if self.world.size > 1 else {}),
        }
        return capture(self.modules, self.optimizer, meta)


@own_defaults()
def fit(
    spec: FullSpec,
    resolved: Resolved,
    images: Images,
    *,
    heldout: Images,
    on_step: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_resolved: Callable[[Resolved], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: Checkpoint | None = None,
    checkpoint_every_s: float = 60.0,
    partners: NDArray[np.int32] | None = None,
    begin_with: EncoderModel | None = None,
    world: World = ALONE,
) -> Fitted:
    """Train the encoder of a filled ``spec`` on uint8 ``images`` (n, h, w, c).

    ``partners`` (n, k): rows of ``images`` that the second branch of Deep InfoMax may see instead of the image itself.
    ``begin_with``: an encoder whose network lends its weights, wherever names and shapes agree.
    ``heldout`` (m, h, w, c) is read once, after training, for ``mi_nats``. ``on_step`` is called about once a
    second, ``on_checkpoint`` every ``checkpoint_every_s`` seconds, when ``should_stop`` says so and after the last
    step, so that what follows can be repeated without training again; not if it resumed there. Resuming from a
    checkpoint gives bit-identical weights on the CPU.

    ``world``: the processes that train together, each of which calls this with the same arguments. Hooks are called on
    the leader alone, but ``should_stop`` on every rank; nothing after the steps is done elsewhere, and ``mi_nats`` and
    the statistics of normalisation are the leader's.

    Raises ValueError for a spec of two stages without ``partners``, CheckpointError if ``resume`` belongs to another
    spec, TrainingDiverged if the loss is not finite, SpecError for a batch that the ranks cannot share equally.
    """
    if spec.method.kind == "infomax" and spec.method.neighbors and partners is None:
        raise ValueError("this spec has two stages: use nidim.staged.fit_in_stages, or give partners")
    if not world.leads:
        on_step = on_checkpoint = on_resolved = None
    run = _prepare(spec, resolved, images, resume, partners, begin_with, world)
    if on_resolved:
        on_resolved(run.resolved)

    def tell(moment: Moment, figures: dict[str, float]) -> None:
        if on_step:
            on_step(_progress(run, moment, figures))

    watch = Watch(run.pace, run.history, tell, advice="lower optimizer.lr or raise the noise")
    batches = run.feed.batches(run.start, run.steps)
    with contextlib.closing(batches), world.spread(run.model, run.method):

        def step(number: int) -> None:
            loss, mi_nats, run.clean = _step(run, number, next(batches))
            if world.leads:
                watch.saw(number, {"loss": loss, "mi_nats": mi_nats})

        finished = run_steps(
            run.start,
            run.steps,
            step,
            checkpoint=run.checkpoint,
            on_checkpoint=on_checkpoint,
            should_stop=world.agreed(should_stop),
            every_s=checkpoint_every_s,
        )
    if not (finished and world.leads):
        return Fitted(_serving(run.model), run.resolved, run.history, None, finished=finished)
    recompute_statistics(run.model, images, run.resolved)
    mi = heldout_information(run, heldout)
    learned = run.method.learned_sigmas()
    if learned is not None:
        run.resolved = run.resolved.model_copy(update={"learned_sigmas": learned})
    return Fitted(_serving(run.model), run.resolved, run.history, mi, finished=True)


def _prepare(
    spec: FullSpec,
    resolved: Resolved,
    images: Images,
    resume: Checkpoint | None,
    partners: NDArray[np.int32] | None,
    begin_with: EncoderModel | None,
    world: World,
) -> _Run:
    if resume is not None:
        if resume.meta["spec_digest"] != spec.digest:
            raise CheckpointError("The checkpoint belongs to another spec; start without it.")
        resolved = Resolved.model_validate(resume.meta["resolved"])
    start = 0 if resume is None else int(resume.meta["step"])
    world.check_alike(f"{spec.digest} {images.shape} {start}")
    world.check_shares(resolved.batch_size)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        model = build_encoder(spec, resolved)
        if begin_with is not None:
            _lend(begin_with.network.state_dict(), model.network)
        method = build_method(spec, resolved)
        term = build_regularizer(spec.regularizer, spec.encoder.dim)
        method.begin(model)
    resolved = _chosen(spec, resolved, model, images, world)
    device = torch.device(resolved.device or "cpu")
    layout = torch.channels_last if resolved.channels_last else torch.contiguous_format
    to_layout(model.to(device), layout).train()
    model.precision = resolved.dtype
    method = method.to(device).train()
    term = None if term is None else term.to(device)
    run = _Run(
        spec=spec,
        resolved=resolved,
        model=model,
        method=method,
        term=term,
        optimizer=build_optimizer(spec.optimizer, model, method, *([] if term is None else [term])),
        feed=Feed(
            images,
            batch_size=resolved.batch_size,
            seed=spec.seed,
            device=device,
            channels_last=bool(resolved.channels_last),
            partners=partners,
            world=world,
        ),
        generator=torch.Generator(device),
        world=world,
        start=start,
    )
    if resume is not None:
        restore(resume, run.modules, run.optimizer)
        run.history = list(resume.meta["history"])
    return run


def _chosen(
    spec: FullSpec, resolved: Resolved, model: EncoderModel, images: Images, world: World
) -> Resolved:
    """``resolved`` with what the leader has chosen for the machine of each rank."""

    def choice() -> bytes:
        sample = scale(torch.from_numpy(np.array(images[: resolved.batch_size // world.size])))
        return choose(spec, resolved, model.network, sample).model_dump_json().encode()

    return Resolved.model_validate_json(world.from_leader(choice))


def _lend(weights: dict[str, Tensor], network: torch.nn.Module) -> None:
    own = network.state_dict()
    same = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own | same)


def _serving(model: EncoderModel) -> EncoderModel:
    """The model as it is stored and served, to the bit: evaluation mode, CPU, float32, contiguous."""
    model.precision = "float32"
    to_layout(model.cpu(), torch.contiguous_format)
    return model.eval()


def _step(run: _Run, step: int, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """One update; loss, information and clean latents. Every random number of a step depends on (seed, step) alone."""
    run.generator.manual_seed(mixed_seed(run.spec.seed, step))
    rate = learning_rate(run.spec.optimizer, step / run.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.method.done = step / run.steps
    shown = {} if batch.partners is None else {"partners": batch.partners}
    result = run.method(run.model, batch.images, generator=run.generator, **shown)
    loss = -result.surrogate
    if run.term is not None:
        loss = loss + run.term(result.clean, generator=run.generator)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    run.world.average(p for group in run.optimizer.param_groups for p in group["params"])
    run.optimizer.step()
    run.method.after_step(run.model, (step + 1) / run.steps)
    return loss.detach(), result.mi_nats.detach(), result.clean.detach()


def mixed_seed(seed: int, step: int) -> int:
    """The seed of one step's random numbers, in [0, 2^63)."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate(optimizer: Optimizer, done: float) -> float:
    """The rate when the fraction ``done`` in [0, 1) of the steps is over."""
    if optimizer.schedule == "constant":
        return optimizer.lr
    if optimizer.schedule == "one_cycle" and done < WARM_UP:
        return optimizer.lr * (0.04 + 0.96 * done / WARM_UP)
    start = WARM_UP if optimizer.schedule == "one_cycle" else 0.0
    return optimizer.lr * (0.5 * (1 + math.cos(math.pi * (done - start) / (1 - start))) * 0.999 + 0.001)


def _progress(run: _Run, moment: Moment, figures: dict[str, float]) -> Progress:
    assert run.clean is not None
    return Progress(
        **dataclasses.asdict(moment),
        mi_nats=figures["mi_nats"],
        loss=figures["loss"],
        capacity_nats=run.resolved.capacity_nats,
        epps_pulley=_distance(run, run.clean),
    )


@torch.no_grad()
def _distance(run: _Run, clean: Tensor) -> float | None:
    """Of one batch from the Gaussian law, on directions that are the same at every report."""
    if run.spec.normalization.kind != "batchnorm":
        return None
    generator = torch.Generator(clean.device).manual_seed(0)
    return float(sliced_epps_pulley(clean.float(), slices=SLICES_SHOWN, generator=generator))


@torch.no_grad()
def heldout_information(run: _Run, heldout: Images) -> float | None:
    """The trained bound on I(f(X'); f(X)+Z) over held-out images, nats; None with fewer than two.

    As in training, each branch is normalised by its own statistics of the batch, that of a target encoder, too; none is
    kept. Mean over batches of the training's size, so its ceiling is the log of that size. The images are taken in
    random order: a file may be sorted by class, and to tell an image from others of its class alone is harder.
    """
    size = min(run.resolved.batch_size, len(heldout))
    if size < 2:
        return None
    run.method.eval()
    run.method.done = 1.0
    run.generator.manual_seed(mixed_seed(run.spec.seed, run.steps))
    layout = torch.channels_last if run.resolved.channels_last else torch.contiguous_format
    order = np.random.default_rng([run.spec.seed, HELD_OUT]).permutation(len(heldout))
    values = []
    targets = [part for part in run.method.modules() if isinstance(part, EncoderModel)]
    with contextlib.ExitStack() as stack:
        for encoder in (run.model, *targets):
            stack.enter_context(_untracked(encoder))
        for low in range(0, len(order) // size * size, size):
            batch = torch.from_numpy(heldout[np.sort(order[low : low + size])])
            images = scale(batch.to(run.feed.device)).contiguous(memory_format=layout)
            values.append(run.method(run.model, images, generator=run.generator).mi_nats)
    return float(torch.stack(values).mean())


@contextlib.contextmanager
def _untracked(model: EncoderModel) -> Iterator[None]:
    """Training mode whose running statistics come out as they went in."""
    kept = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            value.copy_(kept[name])
        model.eval()
