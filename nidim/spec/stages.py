"""Which trainings a spec stands for: one, or one of more dimensions before it."""

from __future__ import annotations

from nidim.spec.train import DatasetFacts, FullSpec, TrainSpec

LEAST_SECOND = 2
"""The second stage has at least so many times the epochs of the first, unless these are given."""


def first_stage(spec: FullSpec, facts: DatasetFacts) -> FullSpec | None:
    """The spec of the stage before, None without one: the same network and views, more dimensions, their defaults."""
    method = spec.method
    if method.kind != "infomax" or method.neighbors == 0:
        return None
    given = TrainSpec(
        dataset=spec.dataset,
        image_size=spec.image_size,
        encoder=spec.encoder.model_copy(update={"dim": method.first_dim}),
        method=method.model_copy(update={"neighbors": 0, "first_epochs": None}),
        augmentation=spec.augmentation,
        optimizer=spec.optimizer,
        epochs=method.first_epochs,
        batch_size=spec.batch_size,
        precision=spec.precision,
        seed=spec.seed,
    )
    first = given.filled(facts)
    if method.first_epochs is not None:
        return first
    return first.model_copy(update={"epochs": max(1, min(first.epochs, spec.epochs // LEAST_SECOND))})
