"""The feature maps of a network, by arithmetic: what each of its blocks gives. No torch.

A block is one of the three of the conv net, or one of the four of the other networks between their halvings; a vision
transformer has none, its patches stay what they are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from nidim.spec import parts

LEAST_SIDE, MOST_SIDE = 6, 8
"""Cells a side: the local map is the last that has 6, averaged down to 8. Those of DIM have 8, of AMDIM 7 and 5."""


class Map(NamedTuple):
    """What a block gives for an image: ``channels`` in ``side`` × ``side`` cells."""

    channels: int
    side: int


class LocalMap(NamedTuple):
    """The map whose cells local information is about: that after ``block``, averaged down to ``side`` cells."""

    block: int
    channels: int
    side: int


HALVINGS = 2
"""Of an image, by the stem "imagenet" of every network; the stem "cifar" does without."""
CHANNELS: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "mobilenet_v3_small": (16, 24, 48, 576),
    "efficientnet_b0": (24, 40, 112, 1280),
    "convnext_tiny": (96, 192, 384, 768),
}
"""After each of the four blocks, of which each but the first halves the sides."""
MOST_PATCH, LEAST_PATCHES = 16, 7


def stem_of(encoder: parts.Backbone, image_size: int) -> Literal["cifar", "imagenet"]:
    """What the stem "auto" is at ``image_size`` pixels."""
    if encoder.stem != "auto":
        return encoder.stem
    return "cifar" if image_size <= parts.CIFAR_STEM_UP_TO else "imagenet"


def patch_of(encoder: parts.ViTSmallEncoder, image_size: int) -> int:
    """The side of a patch, pixels: as given, else the largest divisor of ``image_size`` up to 16 that leaves 7 × 7."""
    if encoder.patch is not None:
        return encoder.patch
    most = min(MOST_PATCH, image_size // LEAST_PATCHES)
    return max((side for side in range(2, most + 1) if image_size % side == 0), default=1)


def least_size(encoder: parts.Encoder) -> int:
    """The smallest images, pixels a side, that such a network takes.

    ConvNeXt halves without a border, so that what it halves needs two pixels; the others leave at least one.
    """
    if encoder.kind != "convnext_tiny":
        return 1
    small = 2 ** (len(CHANNELS[encoder.kind]) - 1)
    return small * 2**HALVINGS if encoder.stem == "imagenet" else small


def feature_maps(encoder: parts.Encoder, image_size: int) -> tuple[Map, ...]:
    """The map after each block, for images of ``image_size`` pixels a side."""
    if encoder.kind == "vit_small":
        return ()
    if encoder.kind == "conv":
        return tuple(Map(encoder.width * 2**k, max(image_size // 2 ** (k + 1), 1)) for k in range(3))
    halved = 0 if stem_of(encoder, image_size) == "cifar" else HALVINGS
    up = 0 if encoder.kind == "convnext_tiny" else 1
    sides = ((image_size - up) // 2 ** (halved + k) + up for k in range(4))
    return tuple(Map(channels, side) for channels, side in zip(CHANNELS[encoder.kind], sides, strict=True))


def local_map(encoder: parts.Encoder, image_size: int) -> LocalMap | None:
    """The last map of at least 6 × 6 cells, else the first, at most 8 × 8; None where that is a single cell or none."""
    maps = feature_maps(encoder, image_size)
    if not maps:
        return None
    block = max((k for k, found in enumerate(maps) if found.side >= LEAST_SIDE), default=0)
    channels, side = maps[block]
    return LocalMap(block, channels, min(side, MOST_SIDE)) if side > 1 else None
