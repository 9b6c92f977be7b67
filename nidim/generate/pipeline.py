"""The whole training of a generator: embed, fit, measure, store. What the CLI and the worker both run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nidim.bundle import Bundle
from nidim.checkpoint import Checkpoint
from nidim.data import Dataset
from nidim.embedding import embed
from nidim.generate import bundle, draw, gap
from nidim.generate.card import generator_card
from nidim.generate.features import Features
from nidim.generate.report import GeneratorReport
from nidim.generate.train import FittedGenerator, Progress, fit_generator
from nidim.pipeline import Hooks, provenance_of
from nidim.spec.generator import (
    FullGeneratorSpec,
    GeneratorSpec,
    ResolvedGenerator,
    SourceFacts,
    resolve_generator,
)
from nidim.stored import Manifest
from nidim.torch_defaults import own_defaults


@dataclasses.dataclass(frozen=True)
class GeneratorOutcome:
    """``manifest`` and ``report`` are None when the training was stopped before its end."""

    spec: FullGeneratorSpec
    fitted: FittedGenerator
    manifest: Manifest | None
    report: GeneratorReport | None


def facts_of(encoder: Bundle) -> SourceFacts:
    """What a generator's spec needs to know of its encoder."""
    return SourceFacts(
        dataset=encoder.spec.dataset,
        dim=encoder.resolved.dim,
        image_size=encoder.resolved.image_size,
        channels=encoder.resolved.channels,
        sigma=encoder.resolved.sigma,
    )


@own_defaults()
def run(
    spec: GeneratorSpec,
    encoder: Bundle,
    dataset: Dataset,
    *,
    out_dir: Path | str,
    resolved: ResolvedGenerator | None = None,
    resume: Checkpoint | None = None,
    hooks: Hooks | None = None,
    on_step: Callable[[Progress], None] | None = None,
    on_resolved: Callable[[ResolvedGenerator], None] | None = None,
    checkpoint_every_s: float = 60.0,
) -> GeneratorOutcome:
    """Train on ``dataset`` (already at the encoder's image size) and write the bundle into ``out_dir``.

    Raises SpecError, DataError, TrainingDiverged, CheckpointError as its parts do.
    """
    hooks = hooks or Hooks()
    source = facts_of(encoder)
    full = spec.filled(source, dataset.facts)
    resolved = resolved or resolve_generator(full, source, dataset.facts)
    hooks.phase("embedding")
    train = embed(encoder.model, dataset.train.images)
    hooks.phase("training")
    fitted = fit_generator(
        full,
        resolved,
        dataset.train.images,
        draw.condition(encoder.prior, train),
        on_step=on_step,
        on_checkpoint=hooks.on_checkpoint,
        on_resolved=on_resolved,
        should_stop=hooks.should_stop,
        resume=resume,
        checkpoint_every_s=checkpoint_every_s,
    )
    if not fitted.finished:
        return GeneratorOutcome(full, fitted, None, None)
    report = evaluate(full, fitted, encoder, dataset, hooks)
    hooks.phase("storing")
    provenance = provenance_of(full, fitted.resolved, dataset)
    manifest = bundle.save(
        out_dir,
        model=fitted.model,
        prior=encoder.prior,
        spec=full,
        resolved=fitted.resolved,
        source=bundle.SourceEncoder(ref=spec.source, digest=encoder.digest),
        report=report,
        card=generator_card(full, fitted.resolved, report, provenance, law=encoder.prior.name),
        history=fitted.history,
        provenance=provenance,
    )
    return GeneratorOutcome(full, fitted, manifest, report)


def evaluate(
    spec: FullGeneratorSpec,
    fitted: FittedGenerator,
    encoder: Bundle,
    dataset: Dataset,
    hooks: Hooks | None = None,
) -> GeneratorReport:
    """The quality of images from the prior and from held-out embeddings, beside real images."""
    hooks = hooks or Hooks()
    hooks.phase("evaluating", 0.0)
    features = _features(spec, encoder, dataset)
    images, labels = dataset.test.images, dataset.test.labels
    one, other = gap.halves(len(images), level=spec.evaluation, seed=spec.seed)
    model, prior = fitted.model, encoder.prior

    def side(real: NDArray[np.int64], fed: NDArray[np.int64]) -> gap.Side:
        others = np.asarray(images[fed])
        embeddings = embed(encoder.model, others)
        return gap.Side(
            gap.make_judge(features, np.asarray(images[real]), others),
            lambda seed: np.concatenate(list(draw.from_embeddings(model, prior, embeddings, seed=seed))),
            None if labels is None else labels[fed],
        )

    return gap.measure(
        [side(*rows) for rows in ((one, other), (other, one))[: gap.DRAWS[spec.evaluation]]],
        of_prior=lambda seed: np.concatenate(list(draw.from_prior(model, prior, len(one), seed=seed))),
        progress=lambda fraction: hooks.phase("evaluating", fraction),
    )


def _features(spec: FullGeneratorSpec, encoder: Bundle, dataset: Dataset) -> Features:
    """Of a classifier where there are labels of at least two classes."""
    train, test = dataset.train, dataset.test
    if train.labels is None or test.labels is None or len(np.unique(train.labels)) < 2:
        return Features.of_encoder(lambda images: embed(encoder.model, images))
    return Features.of_classifier(
        train.images,
        train.labels,
        heldout=test.images,
        heldout_labels=test.labels,
        level=spec.evaluation,
        seed=spec.seed,
    )
