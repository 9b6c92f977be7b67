"""Defaults per dataset and dimension, chosen to meet the project's published targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nidim.spec import channel, laws, matching, parts, views
from nidim.spec.rules import normalization_for
from nidim.spec.train import LEAST_SIDE, MOST_SIDE, DatasetFacts, TrainSpec

IMAGES_SEEN, IMAGES_SEEN_BY_CONV = 5_000_000, 500_000
"""A default training shows about as many images; small sets get more epochs, large ones fewer."""
LR = {"conv": 4e-3, "convnext_tiny": 1e-3, "vit_small": 1e-3}
"""Of AdamW, 2e-3 for what is not named; those of the networks with layer norm are custom, and were not compared."""
REGULARIZED_FROM = 8
"""From this d on noise alone leaves the clean embeddings on a thin set, and a sliced term is added.

``benchmarks/mnist_choices.py`` makes the choice on 5,000 held-out training images; the table of results shows what the
term does on the test set, beside noise alone.
"""


NEIGHBORS, NEIGHBORS_FROM, NEIGHBORS_UP_TO, NEIGHBORS_DIM = 15, 10_000, 200_000, 32
"""Neighbours of a two-stage training, and the gray images and dimensions with which it is the default: with fewer
images, neighbours are worth less; with more, looking for them (n²) takes longer than the training.

A few dimensions hold what an image is of or how it was drawn, not both; neighbours decide for the first. On 5,000
held-out training images of MNIST, seed 0 (runs that are not kept), Henze–Zirkler p and the accuracy of an MLP at d = 2,
8 + 8 epochs, without the weights of the first stage: .361 and .952 without a term (true draws .488), .452 and .939 with
the sliced one of weight .3, .435 and .810 with 1; 8 + 16 epochs with .3: .462 and .951. At d = 16, 8 + 8 epochs, SW2
over its floor for 10,000 images, linear accuracy and Henze–Zirkler p: 2.4, .956, .002 with the sliced term alone (true
draws .319), 2.1, .945, .014 with BHEP of weight 1 beside it, 1.6, .893, .145 with 10.
"""
NEIGHBORS_WEIGHT, NEIGHBORS_BHEP = 0.3, 1.0
"""Weights in two stages: of the sliced term below ``REGULARIZED_FROM``, and of BHEP beside it from there on."""
CHANNEL_BHEP = 25.0
"""Weight of BHEP where the exact critic of the channel pulls views together.

A learned critic can unroll what is curled up, so it does not mind how classes lie; the exact one wants views that
belong together close to each other, and convex classes come of it (``nidim reproduce separability``). On the same 5,000
images at d = 16 (benchmarks/results/mnist-choices), linear, kNN and MLP accuracy, Henze–Zirkler p (true draws .317) and
the certificate in nats, all at σ = .5, with BHEP of weight 1: .955, .985, .985, .032, 4.54 by a learned critic; .981,
.986, .987, .000, 4.71 by the exact one; with BHEP of weight 10 .973, .981, .985, .049, 4.46, of 25 .968, .979, .982,
.115, 4.40. What the heavier weight costs, longer training gives back (``SECOND_STAGE``). At d = 2 the exact critic
costs the law (Henze–Zirkler p .26 instead of .45) and gains nothing.
"""
SECOND_STAGE, LONG_SECOND_STAGE = 2, 5
"""The second of two stages has so many times the epochs of one; the larger from ``REGULARIZED_FROM`` on.

There the law takes longest to come. On the same images at d = 16, σ = .6, BHEP of weight 25, 18 and 45 epochs after 9
in the first stage: linear .966 and .975, kNN .980 and .983, MLP .983 and .985, Henze–Zirkler p .123 and .143, sliced
W2 over its floor 2.21 and 2.20; with BHEP of weight 10 and 18 epochs .975, .983, .984, .054, 2.44. Of weight 50 and
with 90 epochs .978, .980, .984, .203 and 2.10: nearer to the law still, for an hour of a core.
"""
SMALL_COLOR = 40
"""Pixels a side up to which colour images are not blurred."""
STROKES_FROM = 20
"""Pixels a side from which views of gray images also have their strokes bent and made thicker or thinner, by default.

That is of a training in two stages from ``REGULARIZED_FROM`` on. At d = 2 the law lost what accuracy gained
(Henze–Zirkler p .411 and MLP .973, seed 0; .462 and .951 without); trainings in one stage were not tried. In images
of 8 pixels a stroke is one or two wide, and nothing came of it (``nidim reproduce augmentation``, d = 2). On the same
images at d = 16, σ = .6, BHEP of weight 25, 9 + 18 epochs, with and without: linear .980 and .966, kNN .982 and .980,
MLP .986 and .983, Henze–Zirkler p .154 and .123, sliced W2 over its floor 2.3 and 2.2.
"""
MOST_SIGMA, MOST_EPSILON = 0.75, 0.5
"""Of a default: beyond σ the channel carries less than half a nat a dimension, beyond ε less than its formula says."""
CHANNEL_SIGMA = 1.2
"""σ of two stages with the exact critic from ``REGULARIZED_FROM`` on, as a multiple of ``default_sigma``.

On the same images at d = 16, σ = .6 instead of .5, both with BHEP of weight 10: linear .975 instead of .973, kNN .983
instead of .981, MLP .984 instead of .985, Henze–Zirkler p .054 instead of .049, sliced W2 over its floor 2.44 instead
of 2.46; and as log n of held-out images certify a channel of 10.6 nats better than one of 12.9, the certificate 2.7
instead of 4.5 nats, where true draws come to 2.6 and 4.5.
"""


def defaults(spec: TrainSpec, facts: DatasetFacts) -> dict[str, Any]:
    """A value for every optional field of ``spec``, given the fields that it already has."""
    size = spec.image_size or min(max(min(facts.height, facts.width), LEAST_SIDE), MOST_SIDE)
    encoder = spec.encoder or _encoder(facts, spec.prior)
    noise = spec.noise or _noise(spec.normalization, encoder.dim, facts.n_test)
    normalization = spec.normalization or normalization_for(noise)
    method = spec.method or _method(encoder.dim, noise, facts)
    two_stages = method.kind == "infomax" and method.neighbors > 0
    prior = spec.prior or (laws.UniformPrior() if normalization.kind == "sigmoid" else laws.GaussianPrior())
    scored = method.kind == "infomax"
    objective = spec.objective or parts.InfoNCEObjective()
    head = spec.head or _head(method)
    critic = spec.critic or _critic(encoder.dim, noise, method, objective, head)
    exact = two_stages and critic.kind == "gaussian_channel" and noise.kind == "gaussian"
    if spec.noise is None and exact and encoder.dim >= REGULARIZED_FROM:
        noise = matching.GaussianNoise(
            sigma=_certifiable_sigma(channel_sigma(encoder.dim), encoder.dim, facts.n_test)
        )
    return {
        "image_size": size,
        "encoder": encoder,
        "method": method,
        "objective": objective if scored else None,
        "critic": critic if scored else None,
        "head": head,
        "noise": noise,
        "prior": prior,
        "normalization": normalization,
        "regularizer": _regularizer(encoder.dim, noise, normalization, method, critic),
        "augmentation": _augmentation(facts, size, strokes=two_stages and encoder.dim >= REGULARIZED_FROM),
        "optimizer": parts.AdamWOptimizer(lr=LR.get(encoder.kind, 2e-3)),
        "epochs": _epochs(encoder, facts) * (_second_stage(encoder.dim) if two_stages else 1),
        "batch_size": _batch_size(facts),
    }


def _method(dim: int, noise: matching.Noise, facts: DatasetFacts) -> parts.Method:
    enough = facts.channels == 1 and NEIGHBORS_FROM <= facts.n_train <= NEIGHBORS_UP_TO
    if noise.kind == "gaussian" and dim <= NEIGHBORS_DIM and enough:
        return parts.InfoMaxMethod(neighbors=NEIGHBORS)
    return parts.InfoMaxMethod()


def _critic(
    dim: int, noise: matching.Noise, method: parts.Method, objective: parts.Objective, head: parts.Head
) -> parts.Critic:
    """The exact one of the channel where it was found to be better, and where the noise makes it exact."""
    two_stages = method.kind == "infomax" and method.neighbors > 0
    exact = (
        noise.kind == "gaussian" and noise.start is None and noise.branches == "clean" and not noise.learned
    )
    exact = exact and objective.kind == "infonce" and head.kind == "none"
    if two_stages and dim >= REGULARIZED_FROM and exact:
        return parts.GaussianChannelCritic()
    return parts.SeparableCritic()


def _head(method: parts.Method) -> parts.Head:
    """LeJEPA's law is to be that of the embedding itself."""
    if method.kind in ("infomax", "lejepa"):
        return parts.NoHead()
    return parts.MLPHead(batchnorm=method.kind != "simclr")


def _encoder(facts: DatasetFacts, prior: laws.PriorSpec | None) -> parts.Encoder:
    """Of as many dimensions as the prior has, where that is given."""
    given = prior.dim if prior is not None and prior.kind == "flow" else None
    if facts.channels == 1:
        return parts.ConvEncoder(dim=given or 16)
    return parts.ResNet18Encoder(dim=given or 64)


def _augmentation(facts: DatasetFacts, size: int, *, strokes: bool) -> views.Augmentation:
    if facts.channels == 1:
        return (
            views.HandwritingAugmentation()
            if strokes and size >= STROKES_FROM
            else views.DigitsAugmentation()
        )
    return views.Color32Augmentation() if size <= SMALL_COLOR else views.ColorAugmentation()


def _noise(normalization: matching.Normalization | None, dim: int, n_heldout: int) -> matching.Noise:
    if normalization is not None and normalization.kind == "sigmoid":
        return matching.UniformNoise(epsilon=_certifiable_epsilon(default_epsilon(dim), dim, n_heldout))
    return matching.GaussianNoise(sigma=_certifiable_sigma(default_sigma(dim), dim, n_heldout))


def _certifiable_sigma(sigma: float, dim: int, n_heldout: int) -> float:
    """σ, or a larger one, ``MOST_SIGMA`` at most, that so many held-out images can certify.

    A few hundred cannot show what a channel of many nats carries: there the certificate would say nothing, and its law
    is what a user came for. Digits have 359, hence .65 instead of .5 at d = 16; on them, three seeds
    (benchmarks/results/digits-sigma.json): 95 % end of the certificate 4.2 instead of 7.1 nats, where true draws come
    to 3.9 and 6.9; sliced W2 over its floor 1.23 instead of 1.19; MLP .971 instead of .960, linear .944 instead of
    .937, kNN .980 instead of .974, nearer to each other than three seeds tell apart.
    """
    return _raised(sigma, channel.sigma_for, dim, n_heldout, most=MOST_SIGMA)


def _certifiable_epsilon(epsilon: float, dim: int, n_heldout: int) -> float:
    """The same of ε, .5 at most.

    Digits at d = 16, three seeds (benchmarks/results/digits-epsilon.json), ε = .5 instead of .4: 95 % end of the
    certificate 6.2 instead of 8.0 nats, of the noisy law Henze–Zirkler p .25 instead of .17 (true draws .31) and sliced
    W2 over its floor 2.0 instead of 2.6; linear .971 instead of .963, kNN .968 instead of .954, MLP .960 both.
    """
    return _raised(epsilon, channel.epsilon_for, dim, n_heldout, most=MOST_EPSILON)


def _raised(
    noise: float, noise_for: Callable[[int, float], float], dim: int, n_heldout: int, *, most: float
) -> float:
    """``noise``, or as much more, up to ``most``, as n held-out images can certify; few have no certificate."""
    if n_heldout < channel.LEAST_HELDOUT:
        return noise
    least = math.ceil(100 * noise_for(dim, channel.certifiable(dim, n_heldout))) / 100
    return max(noise, min(least, most))


def default_epsilon(dim: int) -> float:
    """ε at which uniform noise carries as much as the default σ: log(1 + 1/2ε) = ½ log(1 + 1/σ²)."""
    return float(round(0.5 / (math.sqrt(1 + default_sigma(dim) ** -2) - 1), 2))


def default_sigma(dim: int) -> float:
    """σ = .2 (d/2)^.44 within [.05, .75]: .2 at d = 2, .5 at d = 16, as chosen on held-out training images.

    At d = 16 it is about the smallest for which log of 10,000 held-out images falls short of the capacity by no more
    than a quarter nat a dimension.
    """
    return float(min(max(round(0.2 * (dim / 2) ** 0.44, 2), 0.05), MOST_SIGMA))


def channel_sigma(dim: int) -> float:
    """σ beside the exact critic of the channel: ``CHANNEL_SIGMA`` times the default one, .75 at most."""
    return float(min(round(CHANNEL_SIGMA * default_sigma(dim), 2), MOST_SIGMA))


def _regularizer(
    dim: int,
    noise: matching.Noise,
    normalization: matching.Normalization,
    method: parts.Method,
    critic: parts.Critic,
) -> matching.Regularizer:
    if method.kind == "lejepa":  # it has the term already
        return matching.NoRegularizer()
    if noise.kind != "gaussian" or normalization.kind != "batchnorm":
        return matching.NoRegularizer()
    two_stages = method.kind == "infomax" and method.neighbors > 0
    if dim >= REGULARIZED_FROM:
        bhep = CHANNEL_BHEP if critic.kind == "gaussian_channel" else NEIGHBORS_BHEP
        return matching.SlicedEppsPulley(bhep=bhep if two_stages else 0.0)
    return matching.SlicedEppsPulley(weight=NEIGHBORS_WEIGHT) if two_stages else matching.NoRegularizer()


def _epochs(encoder: parts.Encoder, facts: DatasetFacts) -> int:
    seen = IMAGES_SEEN_BY_CONV if encoder.kind == "conv" else IMAGES_SEEN
    return int(min(max(round(seen / max(facts.n_train, 1)), 8), 400))


def _second_stage(dim: int) -> int:
    return LONG_SECOND_STAGE if dim >= REGULARIZED_FROM else SECOND_STAGE


def _batch_size(facts: DatasetFacts) -> int:
    return int(min(512, max(2, 2 ** (max(facts.n_train, 2).bit_length() - 2))))
