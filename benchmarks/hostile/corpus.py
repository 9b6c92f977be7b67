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


def mutants(n: int, *, seed: int, start: int = 0) -> Iterator[Case | Wire]:
    """Mutants ``start`` … ``n`` − 1."""
    weights = np.array([family.weight * (UPLOADS if _uploads(family) else 1) for family in FAMILIES])
    for i in range(start, n):
        yield mutant(i, seed=seed, weights=weights / weights.sum())


def one_of_each(*, seed: int, every: int = 1) -> Iterator[Case | Wire]:
    """The first mutant of each family, as ``mutants`` gives it; of those that upload, of each ``every``-th one."""
    for i, family in enumerate(FAMILIES):
        if not _uploads(family) or i % every == 0:
            yield family.make(np.random.default_rng([seed, i]))


def mutant(i: int, *, seed: int, weights: np.ndarray) -> Case | Wire:
    """The first ones are one of each family, the others by weight."""
    rng = np.random.default_rng([seed, i])
    family = i if i < len(FAMILIES) else int(rng.choice(len(FAMILIES), p=weights))
    return FAMILIES[family].make(rng)


def _uploads(family: Family) -> bool:
    return family.name.startswith(("archive/", "npz/", "parquet/", "npy/stored"))
