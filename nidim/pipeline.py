"""The whole of a training: fit, embed, evaluate, explain, store. What the CLI and the worker both run."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nidim import __version__, bundle, machine
from nidim.augment import augment
from nidim.capacity import Resolved, resolve
from nidim.card import model_card
from nidim.checkpoint import Checkpoint
from nidim.data import Dataset
from nidim.embedding import embed, embed_views
from nidim.encoders import scale
from nidim.errors import SpecError
from nidim.evaluate import Embedded, Report, evaluate, page
from nidim.priors import Prior, make_prior, noisy_prior
from nidim.spec import FullSpec, TrainSpec
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator
from nidim.spec.views import Augmentation
from nidim.staged import fit_in_stages
from nidim.stored import Manifest
from nidim.torch_defaults import own_defaults
from nidim.train import Fitted, Progress
from nidim.warp import build_warp
from nidim.world import ALONE, World

PRIOR_DRAWS_SHOWN, NEIGHBOURS_SHOWN = 6, 6
EMBEDDINGS_SHOWN = 3000
VIEWED_IMAGES, VIEWS = {"full": 250, "quick": 50}, 4
"""Held-out images of which views are embedded for the section ``representation`` of the report, by the level of the
evaluation; views of each."""
IMAGES_SHOWN, VIEWS_SHOWN = 6, 5
"""Held-out images that the page shows, and views of each."""
PARITY_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a training tells its caller, and how the caller stops it. Every hook may be left out.

    ``on_phase(name, fraction)``: fitting the prior (a flow), training, embedding, evaluating, storing; fraction in
    [0, 1] or None.
    """

    on_step: Callable[[Progress], None] | None = None
    on_checkpoint: Callable[[Checkpoint], None] | None = None
    on_resolved: Callable[[Resolved], None] | None = None
    on_phase: Callable[[str, float | None], None] | None = None
    should_stop: Callable[[], bool] | None = None

    def phase(self, name: str, fraction: float | None = None) -> None:
        if self.on_phase:
            self.on_phase(name, fraction)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """``manifest``, ``report`` and ``prior`` are None when the training was stopped before its end, and where
    another process leads."""

    fitted: Fitted
    manifest: Manifest | None
    report: Report | None
    prior: Prior | None = None


@own_defaults()
def run(
    spec: TrainSpec,
    dataset: Dataset,
    *,
    out_dir: Path | str,
    resolved: Resolved | None = None,
    resume: Checkpoint | None = None,
    hooks: Hooks | None = None,
    checkpoint_every_s: float = 60.0,
    provenance: dict[str, Any] | None = None,
    onnx: bool = True,
    world: World = ALONE,
) -> Outcome:
    """Train on ``dataset`` (already at the spec's image_size) and write the bundle into ``out_dir``.

    ``onnx``: whether model.onnx is among its files. ``world``: the processes that train together; they part after the
    last step, and the leader does the rest.

    Raises SpecError, DataError, TrainingDiverged, CheckpointError as its parts do.
    """
    hooks = hooks or Hooks()
    full = spec.filled(dataset.facts)
    if resolved is None:
        resolved, _ = resolve(full, dataset.facts)
    _require_size(dataset, resolved.image_size)
    if full.prior.kind == "flow":
        hooks.phase("fitting the prior")
    prior = make_prior(full)
    hooks.phase("training")
    fitted = fit_in_stages(
        full,
        resolved,
        dataset.train.images,
        heldout=dataset.test.images,
        on_step=hooks.on_step,
        on_checkpoint=hooks.on_checkpoint,
        on_resolved=hooks.on_resolved,
        should_stop=hooks.should_stop,
        resume=resume,
        checkpoint_every_s=checkpoint_every_s,
        world=world,
    )
    world.leave()
    if not (fitted.finished and world.leads):
        return Outcome(fitted, None, None)
    fitted.model.warp = build_warp(prior)  # a checkpoint may hold a flow that another machine has fitted
    embedded = embed_dataset(full, fitted, dataset, hooks)
    facts = {**provenance_of(full, fitted.resolved, dataset), **(provenance or {})}
    report = evaluate_fitted(full, prior, fitted, embedded, hooks, provenance=facts)
    hooks.phase("storing")
    manifest = bundle.save(
        out_dir,
        model=fitted.model,
        prior=prior,
        spec=full,
        resolved=fitted.resolved,
        report={**report.model_dump(mode="json"), "history": fitted.history},
        page=render_page(full, prior, fitted, dataset, embedded, report),
        card=model_card(full, fitted.resolved, report, facts, law=prior.name),
        provenance=facts,
        onnx=onnx,
        sample=np.asarray(dataset.test.images[:PARITY_IMAGES]),
    )
    return Outcome(fitted, manifest, report, prior)


def _require_size(dataset: Dataset, side: int) -> None:
    facts = dataset.facts
    if (facts.height, facts.width) != (side, side):
        raise SpecError(
            f"The images of {facts.name} have {facts.height} x {facts.width} pixels, not {side} x {side}; open the "
            f"dataset with image_size={side}, or leave it out of the spec.",
            pointer="/image_size",
        )


def embed_dataset(spec: FullSpec, fitted: Fitted, dataset: Dataset, hooks: Hooks | None = None) -> Embedded:
    """Clean embeddings of both splits, and of views of some held-out images."""
    (hooks or Hooks()).phase("embedding")
    return Embedded(
        views=_views(spec, fitted, dataset.test.images),
        train=embed(fitted.model, dataset.train.images),
        train_labels=dataset.train.labels,
        test=embed(fitted.model, dataset.test.images),
        test_labels=dataset.test.labels,
    )


def _views(spec: FullSpec, fitted: Fitted, heldout: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Embeddings (m, v, d) of views by the training's augmentation; None without held-out images."""
    if len(heldout) == 0:
        return None
    rows = np.random.default_rng([spec.seed, 1]).permutation(len(heldout))[: VIEWED_IMAGES[spec.evaluation]]
    images = np.asarray(heldout[np.sort(rows)])
    return embed_views(fitted.model, images, spec.augmentation, views=VIEWS, seed=spec.seed)


def evaluate_fitted(
    spec: FullSpec,
    prior: Prior,
    fitted: Fitted,
    embedded: Embedded,
    hooks: Hooks | None = None,
    *,
    provenance: dict[str, Any] | None = None,
) -> Report:
    """The report of a trained encoder from its embeddings, which are to follow ``prior``; keeps ``provenance``."""
    hooks = hooks or Hooks()
    hooks.phase("evaluating", 0.0)
    return evaluate(
        embedded,
        spec=spec,
        resolved=fitted.resolved,
        mi_nats=fitted.mi_nats,
        prior=prior,
        noisy=noisy_prior(prior, fitted.resolved),
        seed=spec.seed,
        progress=lambda fraction: hooks.phase("evaluating", fraction),
        level=spec.evaluation,
        certificate_sigma=spec.noise.certificate_sigma if spec.noise.kind == "none" else None,
        certificate_epsilon=spec.noise.certificate_epsilon if spec.noise.kind == "none" else None,
        provenance=provenance,
    )


def render_page(
    spec: FullSpec, prior: Prior, fitted: Fitted, dataset: Dataset, embedded: Embedded, report: Report
) -> str:
    """The report for people."""
    shown = np.random.default_rng(0).permutation(len(embedded.test))[:EMBEDDINGS_SHOWN]
    labels = embedded.test_labels
    return page.render(
        report,
        title=f"{dataset.name}: {prior.kind} prior, d = {prior.dim}",
        history=fitted.history,
        embeddings=embedded.test[shown],
        labels=labels[shown] if labels is not None else None,
        prior=prior,
        noisy=noisy_prior(prior, fitted.resolved),
        nearest=nearest_to_draws(prior, embedded.test, dataset.test.images, seed=spec.seed),
        views=some_views(dataset.test.images, spec.augmentation, seed=spec.seed),
        classes=dataset.classes or None,
    )


def nearest_to_draws(
    prior: Prior, embeddings: NDArray[np.float32], images: NDArray[np.uint8], *, seed: int
) -> list[NDArray[np.uint8]]:
    """For a few prior draws, the held-out images whose embeddings are nearest, see ``Prior.positions``.

    One array (k, h, w, c) a draw, nearest first; nothing without held-out images.
    """
    if len(images) == 0:
        return []
    places = prior.positions(embeddings)
    draws = prior.positions(prior.sample(PRIOR_DRAWS_SHOWN, seed=seed))
    rows = []
    for draw in draws:
        order = np.argsort(np.square(places - draw).sum(1))[:NEIGHBOURS_SHOWN]
        rows.append(np.asarray(images[np.sort(order)])[np.argsort(np.argsort(order))])
    return rows


def some_views(
    images: NDArray[np.uint8], augmentation: Augmentation, *, seed: int
) -> list[NDArray[np.uint8]]:
    """A few of ``images`` (n, h, w, c), each with views of it: one array (1 + views, h, w, c) an image."""
    if len(images) == 0:
        return []
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:IMAGES_SHOWN])
    originals = scale(torch.from_numpy(np.asarray(images[chosen])))
    generator = torch.Generator().manual_seed(seed)
    seen = [augment(originals, augmentation, generator=generator) for _ in range(VIEWS_SHOWN)]
    shown = torch.stack([originals, *seen], dim=1).clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(shown.permute(0, 1, 3, 4, 2).numpy())


def provenance_of(
    spec: FullSpec | FullGeneratorSpec, resolved: Resolved | ResolvedGenerator, dataset: Dataset
) -> dict[str, Any]:
    """Where an encoder comes from: code, versions, hardware, data, time."""
    return {
        "nidim": __version__,
        "git_revision": machine.revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "platform": platform.platform(terse=True),
        "processor": _processor(resolved),
        "threads": resolved.threads,
        "spec_digest": spec.digest,
        "seed": spec.seed,
        "dataset": {
            "name": dataset.name,
            "digest": dataset.digest,
            "license": dataset.license,
            "n_train": dataset.facts.n_train,
            "n_test": dataset.facts.n_test,
        },
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _processor(resolved: Resolved | ResolvedGenerator) -> str:
    if resolved.device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return machine.processor()
