"""The feature maps of a network, by arithmetic: what each of its blocks gives. No torch.

A block is one of the three of the conv net, one of the four stages of a ResNet.
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


def stem_of(
    encoder: parts.ResNet18Encoder | parts.ResNet50Encoder, image_size: int
) -> Literal["cifar", "imagenet"]:
    """What the stem "auto" is at ``image_size`` pixels."""
    if encoder.stem != "auto":
        return encoder.stem
    return "cifar" if image_size <= parts.CIFAR_STEM_UP_TO else "imagenet"


def feature_maps(encoder: parts.Encoder, image_size: int) -> tuple[Map, ...]:
    """The map after each block, for images of ``image_size`` pixels a side."""
    if encoder.kind == "conv":
        return tuple(Map(encoder.width * 2**k, max(image_size // 2 ** (k + 1), 1)) for k in range(3))
    wider = 4 if encoder.kind == "resnet50" else 1
    halved = 0 if stem_of(encoder, image_size) == "cifar" else 2
    return tuple(Map(64 * wider * 2**k, -(-image_size // 2 ** (halved + k))) for k in range(4))


def local_map(encoder: parts.Encoder, image_size: int) -> LocalMap | None:
    """The last map of at least 6 × 6 cells, else the first, at most 8 × 8; None where that is a single cell."""
    maps = feature_maps(encoder, image_size)
    block = max((k for k, found in enumerate(maps) if found.side >= LEAST_SIDE), default=0)
    channels, side = maps[block]
    return LocalMap(block, channels, min(side, MOST_SIDE)) if side > 1 else None
