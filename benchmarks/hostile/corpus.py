"""The corpus: mutant i of a seed is always the same, and every family is met early."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.hostile import archives, arrays, images, texts, wires
from benchmarks.hostile.cases import Case, Family, Wire

FAMILIES: tuple[Family, ...] = (
    *images.FAMILIES,
    *archives.FAMILIES,
    *arrays.FAMILIES,
    *texts.FAMILIES,
    *wires.FAMILIES,
)


UPLOADS = 0.3
"""An upload costs a process of its own, a thousand times as much as an image: there are fewer of them."""


def mutants(n: int, *, seed: int, start: int = 0, every: int = 1) -> Iterator[Case | Wire]:
    """Mutants ``start`` … ``n`` − 1; of the first of the families that upload, only those whose number ``every``
    divides."""
    weights = np.array([family.weight * (UPLOADS if uploads(family) else 1) for family in FAMILIES])
    for i in range(start, n):
        if i % every == 0 or i >= len(FAMILIES) or not uploads(FAMILIES[i]):
            yield mutant(i, seed=seed, weights=weights / weights.sum())


def mutant(i: int, *, seed: int, weights: np.ndarray) -> Case | Wire:
    """The first ones are one of each family, the others by weight."""
    rng = np.random.default_rng([seed, i])
    family = i if i < len(FAMILIES) else int(rng.choice(len(FAMILIES), p=weights))
    return FAMILIES[family].make(rng)


def uploads(family: Family) -> bool:
    """Whether its mutants become datasets."""
    return family.name.startswith(("archive/", "npz/", "parquet/", "npy/stored"))
