"""Nearest neighbours of every image in an embedding: what a second stage takes for another view of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

BLOCK_VALUES = 1 << 25
"""Similarities that are in memory at a time."""


def nearest(embeddings: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """The ``k`` rows with the largest cosine to each row of ``embeddings`` (n, d), itself left out: (n, k).

    Exact, in blocks: n² d multiplications. Raises ValueError unless 1 ≤ k < n.
    """
    n = len(embeddings)
    if not 1 <= k < n:
        raise ValueError(f"k must be within [1, {n - 1}], got {k}")
    unit = functional.normalize(torch.from_numpy(np.asarray(embeddings, dtype=np.float32)), dim=1)
    found = np.empty((n, k), dtype=np.int32)
    rows = max(1, BLOCK_VALUES // n)
    for low in range(0, n, rows):
        similar = unit[low : low + rows] @ unit.T
        mine = torch.arange(len(similar))
        similar[mine, mine + low] = -2.0
        found[low : low + rows] = similar.topk(k, dim=1).indices.numpy()
    return found
