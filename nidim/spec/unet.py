"""The shape of the U-Net of flow matching by plain arithmetic: the network is built by it, its memory counted by it."""

from __future__ import annotations

import math
from typing import NamedTuple

FOLD_FROM = 16
"""Pixels a side from which images are folded 2 × 2 into channels."""
COARSEST = 8


class UNetShape(NamedTuple):
    """``widths``: channels of each resolution, finest first; ``multiple``: what sides are padded to a multiple of."""

    fold: int
    widths: tuple[int, ...]

    @property
    def multiple(self) -> int:
        return int(self.fold * 2 ** (len(self.widths) - 1))

    def sides(self, side: int) -> list[int]:
        """Pixels a side of each resolution, of images of ``side``."""
        finest = -(-side // self.multiple) * self.multiple // self.fold
        return [finest >> level for level in range(len(self.widths))]


def unet_shape(side: int, width: int) -> UNetShape:
    """Resolutions halve until about eight pixels a side are left."""
    fold = 2 if side >= FOLD_FROM else 1
    levels = 1 + max(1, math.ceil(math.log2(side / fold / COARSEST)))
    return UNetShape(fold, (width, *[2 * width] * (levels - 1)))
