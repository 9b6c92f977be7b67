"""How much memory a training takes, by plain arithmetic before it starts. No torch.

Counted is what grows with the spec: weights with their gradients and the optimiser's moments, the activations that the
backward pass needs, the critic's scores and the regulariser's knots, and the largest layer while held-out images are
embedded. Not counted: the program itself (some hundred MB), the images (resident on a GPU up to 8 GiB, else mapped)
and what the allocator keeps. Within a factor of 1.6 of the peak measured on the CPU for each of the specs in
``tests/nidim/test_footprint.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from nidim.capacity import Resolved, resolve
from nidim.spec import FullSpec, matching, parts
from nidim.spec.generator import FlowMatchingModel, FullGeneratorSpec, GANModel, ResolvedGenerator
from nidim.spec.maps import feature_maps, local_map, patch_of, stem_of
from nidim.spec.stages import first_stage
from nidim.spec.unet import unet_shape

FLOAT = 4
COPIES = {"adamw": 4, "sgd": 3}
"""Of every weight: itself, its gradient, the moments."""
BRANCHES = 2
SIMILARITIES = 1 << 28
"""Bytes of a block of cosines while neighbours are looked for."""
EMBED_BATCH, EMBED_PIXELS = 1024, 1024 * 64 * 64


class Footprint(NamedTuple):
    """Bytes at the peak by the field of the spec that causes them; ``total`` is their sum."""

    encoder: int
    batch_size: int
    critic: int
    regularizer: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self)

    @property
    def largest(self) -> str:
        """The field that causes most."""
        return max(self._fields, key=lambda name: getattr(self, name))


def training(spec: FullSpec, resolved: Resolved) -> Footprint:
    """What the trainings of a spec and the evaluation after them take at their peak, bytes."""
    last, facts = _stage(spec, resolved), resolved.facts(spec.dataset)
    first = first_stage(spec, facts)
    if first is None:
        return last
    before = _stage(first, resolve(first, facts)[0])
    return Footprint(*(max(pair) for pair in zip(last, before, strict=True)))


def _stage(spec: FullSpec, resolved: Resolved) -> Footprint:
    n, size = resolved.batch_size, resolved.image_size
    network = _network(spec.encoder, channels=resolved.channels, size=size)
    value = 2 if spec.precision == "bfloat16" else FLOAT
    images = 3 * size**2 * resolved.channels * FLOAT
    steps = n * ((BRANCHES * network.kept + network.widest) * value + images + _between(spec, size))
    embedding = min(embed_batch(size**2), max(resolved.n_train, resolved.n_heldout)) * network.widest * FLOAT
    if spec.method.kind == "infomax" and spec.method.neighbors:
        embedding = max(embedding, SIMILARITIES)
    head = _head(spec.head, spec.encoder.dim)
    weights = network.weights + head.weights
    copies = COPIES[spec.optimizer.kind] + (spec.method.kind == "byol")  # its target
    return Footprint(
        encoder=copies * FLOAT * weights,
        batch_size=max(steps, embedding) + BRANCHES * n * head.kept * FLOAT,
        critic=_critic(spec, n, COPIES[spec.optimizer.kind]) + _local(spec, n, size),
        regularizer=_regularizer(spec.regularizer, n, spec.encoder.dim),
    )


class GeneratorFootprint(NamedTuple):
    """The same of a generator's training."""

    model: int
    batch_size: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self)

    @property
    def largest(self) -> str:
        """The field that causes most."""
        return "model" if self.model > self.batch_size else "batch_size"


def generator(spec: FullGeneratorSpec, resolved: ResolvedGenerator) -> GeneratorFootprint:
    """What the training of a generator takes at its peak, bytes: with the average of its weights."""
    model = spec.model
    layers = _unet(model, resolved) if model.kind == "flow_matching" else _gan(model, resolved)
    value = 2 if spec.precision == "bfloat16" else FLOAT
    images = 6 * resolved.image_size**2 * resolved.channels * FLOAT
    step = resolved.batch_size * ((layers.kept + layers.widest) * value + images)
    return GeneratorFootprint(
        model=(COPIES[spec.optimizer.kind] + 1) * FLOAT * layers.weights, batch_size=step
    )


def _unet(model: FlowMatchingModel, resolved: ResolvedGenerator) -> _Layers:
    """Kept of a residual block: what each norm, activation and convolution read."""
    shape = unet_shape(resolved.image_size, model.width)
    sides, known = shape.sides(resolved.image_size), 4 * model.width
    weights, kept, widest = known * (resolved.dim + known), 0, 0

    def block(before: int, after: int, side: int) -> None:
        nonlocal weights, kept, widest
        weights += 9 * after * (before + after) + 2 * known * after
        kept += (5 * before + 8 * after) * side**2
        widest = max(widest, (before + 2 * after) * side**2)

    before = model.width
    for width, side in zip(shape.widths, sides, strict=True):
        for number in range(model.depth):
            block(width if number else before, width, side)
        before = width
    block(before, before, sides[-1])
    for width, side in zip(reversed(shape.widths), reversed(sides), strict=True):
        for number in range(model.depth):
            block(width if number else before + width, width, side)
        before = width
    return _Layers(weights, kept, widest)


def _gan(model: GANModel, resolved: ResolvedGenerator) -> _Layers:
    """Of the generator once, of the discriminator three times: real, made, and made again for the generator."""
    width, side = model.width, resolved.image_size
    start = -(-side // 4)
    weights = (
        2 * width * start**2 * (resolved.dim + model.noise) + 54 * width**2 + 36 * width**2 + 128 * width**2
    )
    made = width * (6 * start**2 + 10 * (2 * start) ** 2 + 7 * (4 * start) ** 2)
    judged = 2 * width * (side**2 + 2 * (side // 2) ** 2 + 4 * (side // 4) ** 2)
    return _Layers(weights, made + 3 * judged, 3 * width * (4 * start) ** 2)


def embed_batch(pixels: int) -> int:
    """How many images of so many pixels go through the network at a time where nobody says so."""
    return max(1, min(EMBED_BATCH, EMBED_PIXELS // max(pixels, 1)))


class _Blocks(NamedTuple):
    """Of a ResNet: blocks in each stage; then, in widths of the stage, the values that a block keeps for an image, the
    largest layer with its input, and the channels at the end; the weights without the last layer."""

    counts: tuple[int, ...]
    kept: int
    widest: int
    out: int
    weights: int


RESNETS = {
    "resnet18": _Blocks((2, 2, 2, 2), kept=2 * (1 + 1) + 1, widest=2, out=1, weights=11_200_000),
    "resnet34": _Blocks((3, 4, 6, 3), kept=2 * (1 + 1) + 1, widest=2, out=1, weights=21_300_000),
    "resnet50": _Blocks((3, 4, 6, 3), kept=2 * (1 + 1 + 4) + 4, widest=9, out=4, weights=23_500_000),
}


class _PerCell(NamedTuple):
    """Of a network whose layers all grow with the image: values for each cell of its stem's map, by the stem (a pixel
    of the stem "cifar", 4 × 4 of "imagenet", a patch); weights without the last layer, and the width before it.

    Counted by autograd's hooks on what it keeps, at 32 and 224 pixels; ``tests/nidim/test_footprint.py`` counts again.
    """

    kept: dict[str, int]
    widest: dict[str, int]
    weights: int
    out: int


COUNTED = {
    "mobilenet_v3_small": _PerCell(
        {"cifar": 1120, "imagenet": 1290}, {"cifar": 144, "imagenet": 144}, weights=1_520_000, out=1024
    ),
    "efficientnet_b0": _PerCell(
        {"cifar": 5410, "imagenet": 7040}, {"cifar": 288, "imagenet": 768}, weights=4_010_000, out=1280
    ),
    "convnext_tiny": _PerCell(
        {"cifar": 8660, "imagenet": 8700}, {"cifar": 768, "imagenet": 768}, weights=27_800_000, out=768
    ),
    "vit_small": _PerCell({"patch": 75_900}, {"patch": 3120}, weights=21_300_000, out=384),
}


class _Layers(NamedTuple):
    """``kept``: values an image leaves for the backward pass; ``widest``: of the largest layer and its input.

    The gradients of these stand beside what is kept while the backward pass goes through that layer.
    """

    weights: int
    kept: int
    widest: int


def _network(encoder: parts.Encoder, *, channels: int, size: int) -> _Layers:
    if encoder.kind == "conv":
        return _conv(encoder.width, channels=channels, size=size, dim=encoder.dim)
    if encoder.kind == "vit_small":
        cells = (size // patch_of(encoder, size)) ** 2
        return _counted(COUNTED[encoder.kind], "patch", cells=cells, dim=encoder.dim)
    stem = stem_of(encoder, size)
    if encoder.kind in COUNTED:
        cells = size**2 if stem == "cifar" else (-(-size // 4)) ** 2
        return _counted(COUNTED[encoder.kind], stem, cells=cells, dim=encoder.dim)
    return _resnet(encoder.kind, size=size, cifar=stem == "cifar", dim=encoder.dim)


def _counted(network: _PerCell, stem: str, *, cells: int, dim: int) -> _Layers:
    weights = network.weights + network.out * dim
    return _Layers(weights, cells * network.kept[stem], cells * network.widest[stem])


def _conv(width: int, *, channels: int, size: int, dim: int) -> _Layers:
    """Kept of a block: the convolution's output, and pooled the place of each maximum (8 bytes), two norms' values."""
    weights = kept = widest = 0
    before, side = channels, size
    for after in (width, 2 * width, 4 * width):
        weights += 9 * before * after
        full, pooled = after * side**2, after * max(side // 2, 1) ** 2
        kept += full + 5 * pooled
        widest = max(widest, before * side**2 + full + 3 * pooled)
        before, side = after, max(side // 2, 1)
    flat = before * min(side, 4) ** 2
    return _Layers(weights + 128 * (flat + dim), kept + flat + 2 * 128 + dim, widest)


def _resnet(kind: str, *, size: int, cifar: bool, dim: int) -> _Layers:
    """Kept of every convolution: its output and that of the norm after it; of a block also the sum."""
    blocks = RESNETS[kind]
    side = size if cifar else -(-size // 2)
    kept = widest = 2 * 64 * side**2
    side = side if cifar else -(-side // 2)
    width = 64
    for stage, count in enumerate(blocks.counts):
        if stage > 0:
            side, width = -(-side // 2), 2 * width
        kept += count * blocks.kept * width * side**2
        widest = max(widest, blocks.widest * width * side**2)
    return _Layers(blocks.weights + blocks.out * width * dim, kept, widest)


def _head(head: parts.Head, dim: int) -> _Layers:
    if head.kind == "none":
        return _Layers(0, dim, dim)
    return _Layers(head.hidden * (dim + head.dim), 2 * head.hidden + head.dim, head.hidden)


def _critic(spec: FullSpec, n: int, copies: int) -> int:
    """Scores of all pairs with their softmax and gradients, and the critic's own layers."""
    scores = 4 * _scores_at_once(spec, n) * FLOAT
    d = spec.encoder.dim if spec.head.kind == "none" else spec.head.dim
    critic = spec.critic
    if critic is None:  # SimCLR scores 2n views against each other
        return 4 * scores
    if critic.kind == "concat":
        weights = critic.hidden * (2 * d + critic.hidden)
        return scores + FLOAT * (copies * weights + 6 * n * n * critic.hidden)
    if critic.kind == "separable":
        weights = 2 * critic.hidden * (d + critic.hidden + critic.dim)
        return scores + FLOAT * (copies * weights + 2 * n * (4 * critic.hidden + critic.dim))
    return scores + FLOAT * copies * d * d


def _scores_at_once(spec: FullSpec, n: int) -> int:
    """All n²; of a large batch, where the critic's scores are one product and the objective is InfoNCE, a block."""
    critic, objective = spec.critic, spec.objective
    factored = critic is not None and critic.kind in ("separable", "bilinear")
    by_blocks = n > parts.WHOLE_BATCH and factored and objective is not None and objective.kind == "infonce"
    return max(parts.BLOCK_OF_SCORES, n) if by_blocks else n * n


def _between(spec: FullSpec, size: int) -> int:
    """Of noise between the blocks, bytes an image: draws and scaled draws of each map, and the map in float32."""
    if spec.noise.kind != "gaussian" or spec.noise.layers == 0:
        return 0
    passes = BRANCHES if spec.method.kind in ("byol", "simsiam") else 1
    values = sum(found.channels * found.side**2 for found in feature_maps(spec.encoder, size))
    return 3 * FLOAT * passes * values


def _local(spec: FullSpec, n: int, size: int) -> int:
    """Of the local bound: cells, the layers of their projection, the scores of one place, the gradients of cells."""
    method, place = spec.method, local_map(spec.encoder, size)
    if method.kind != "infomax" or method.local == 0 or place is None:
        return 0
    critic = spec.critic if spec.critic is not None and spec.critic.kind == "separable" else None
    hidden, dim = (critic.hidden, critic.dim) if critic else (256, 64)
    weights = hidden * (place.channels + spec.encoder.dim + 2 * (hidden + dim))
    cells = n * place.side**2 * (place.channels + 4 * hidden + 3 * dim)
    return FLOAT * (COPIES[spec.optimizer.kind] * weights + cells + 4 * n * n)


def _regularizer(term: matching.Regularizer, n: int, dim: int) -> int:
    """What the backward pass needs: angles, their cosines and sines; sorted projections; squared distances of pairs."""
    if term.kind == "sliced_epps_pulley":
        pairs = 2 * n * n * FLOAT if term.bhep else 0
        return 7 * n * term.slices * matching.KNOTS * FLOAT + pairs
    if term.kind == "sliced_wasserstein":
        return 8 * n * term.slices * FLOAT
    if term.kind == "adversarial":
        return FLOAT * (4 * term.hidden * (dim + term.hidden) + 8 * n * term.hidden)
    return 2 * n * n * FLOAT if term.kind in ("uniformity", "bhep") else 0
