"""Defaults per dataset and dimension, chosen to meet the project's published targets."""

from __future__ import annotations

from typing import Any

from nidim.spec import parts
from nidim.spec.rules import normalization_for
from nidim.spec.train import DatasetFacts, TrainSpec

IMAGES_SEEN = 1_000_000
"""A default training shows about as many images; small sets get more epochs, large ones fewer."""


def defaults(spec: TrainSpec, facts: DatasetFacts) -> dict[str, Any]:
    """A value for every optional field of ``spec``, given the fields that it already has."""
    size = spec.image_size or min(max(min(facts.height, facts.width), 8), 64)
    encoder = spec.encoder or _encoder(facts)
    method = spec.method or parts.InfoMaxMethod()
    prior = spec.prior or (
        parts.UniformPrior()
        if spec.noise is not None and spec.noise.kind == "uniform"
        else parts.GaussianPrior()
    )
    noise = spec.noise or parts.GaussianNoise()
    contrastive = method.kind == "simclr"
    channel = spec.critic is not None and spec.critic.kind == "gaussian_channel"
    return {
        "image_size": size,
        "encoder": encoder,
        "method": method,
        "objective": None if contrastive else parts.InfoNCEObjective(),
        "critic": None if contrastive else parts.SeparableCritic(),
        "head": parts.MLPHead() if contrastive and not channel else parts.NoHead(),
        "noise": noise,
        "prior": prior,
        "normalization": normalization_for(noise),
        "regularizer": parts.NoRegularizer(),
        "augmentation": _augmentation(facts, size),
        "optimizer": parts.AdamWOptimizer(lr=4e-3 if encoder.kind == "conv" else 2e-3),
        "epochs": _epochs(facts),
        "batch_size": _batch_size(facts),
    }


def _encoder(facts: DatasetFacts) -> parts.Encoder:
    if facts.channels == 1:
        return parts.ConvEncoder(dim=16)
    return parts.ResNet18Encoder(dim=64)


def _augmentation(facts: DatasetFacts, size: int) -> parts.Augmentation:
    if facts.channels == 1:
        return parts.DigitsAugmentation()
    return parts.Color32Augmentation() if size <= 40 else parts.ColorAugmentation()


def _epochs(facts: DatasetFacts) -> int:
    return int(min(max(round(IMAGES_SEEN / max(facts.n_train, 1)), 8), 400))


def _batch_size(facts: DatasetFacts) -> int:
    return int(min(512, max(2, 2 ** (max(facts.n_train, 2).bit_length() - 2))))
