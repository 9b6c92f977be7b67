"""A shipped encoder without weights or torch: row i depends on image i alone, so that mix-ups show.

`/readyz` sends an image through it while no real encoder is loaded, and the batcher's tests use it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DIM = 4
SIZE, CHANNELS = 8, 1


def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Four fixed sums of each image's pixels, float32 (n, 4), for images (n, h, w, c)."""
    flat = images.reshape(len(images), math.prod(images.shape[1:])) / 255.0
    angle = np.arange(flat.shape[1], dtype=np.float64)
    weights = np.stack([np.cos(angle * k) for k in range(1, DIM + 1)])
    return np.array([weights @ row for row in flat], dtype=np.float32).reshape(len(flat), DIM)


def probe() -> NDArray[np.uint8]:
    """One image that exercises the whole path."""
    return np.arange(SIZE * SIZE * CHANNELS, dtype=np.uint8).reshape(1, SIZE, SIZE, CHANNELS)
