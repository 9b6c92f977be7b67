"""From folders or table columns to splits and classes.

Folders: a single folder around everything is taken off. If then all topmost folders are called train, test or the
like, they are splits. The next folder is the class, as torchvision's ImageFolder has it. One class is no class.
Without a test split a seeded tenth of the images is held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Label = int | str
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}
"""A validation folder counts as test: something is held out for the certificate either way."""
HELD_OUT = 10
STRAY = "lies beside the class folders, so it has no class"
UNLABELLED = "has no label while other rows have one"


class Place(NamedTuple):
    """Where an image belongs: split None where nothing says it."""

    split: str | None
    label: Label | None


def places_from_folders(folders: Sequence[tuple[str, ...]]) -> list[Place]:
    """One place for each distinct folder that holds images."""
    inner = _unwrap(folders)
    if not all(f and f[0].lower() in SPLITS for f in inner):
        return [Place(None, f[0] if f else None) for f in inner]
    return [Place(SPLITS[f[0].lower()], f[1] if len(f) > 1 else None) for f in inner]


def places_from_columns(values: Sequence[tuple[Label | None, str | None]]) -> list[Place]:
    """One place for each distinct pair of label and split."""
    known = all(split is not None and split.lower() in SPLITS for _, split in values)
    return [
        Place(SPLITS[split.lower()] if known and split else None, _no_negative(label))
        for label, split in values
    ]


def _unwrap(folders: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Take off what surrounds everything, but never the name of a split."""
    depth = 0
    shortest = min(map(len, folders), default=0)
    while depth < shortest:
        names = {f[depth].lower() for f in folders}
        inside = {f[depth + 1].lower() if len(f) > depth + 1 else "" for f in folders}
        surrounds_splits = len(inside) > 1 and inside <= SPLITS.keys()
        if len(names) > 1 or (names <= SPLITS.keys() and not surrounds_splits):
            break
        depth += 1
    return [f[depth:] for f in folders]


def _no_negative(label: Label | None) -> Label | None:
    """-1 is how tables write "no label"."""
    return None if isinstance(label, int) and label < 0 else label


def class_names(places: Iterable[Place]) -> tuple[Label, ...]:
    """The labels in order: numbers by value, names by spelling; none where there is only one."""
    labels = {p.label for p in places if p.label is not None}
    ordered = sorted(labels, key=lambda label: (isinstance(label, str), label))
    return tuple(ordered) if len(ordered) > 1 else ()


def strays(places: Sequence[Place], classes: tuple[Label, ...]) -> list[bool]:
    """Whether a place has no label in a split where other places have one."""
    labelled = {p.split for p in places if p.label is not None} if classes else set()
    return [p.label is None and p.split in labelled for p in places]


def held_out(n: int, *, seed: int) -> np.ndarray:
    """bool (n,): a seeded tenth of n images, at least one of two or more. The same on every machine."""
    mask = np.zeros(n, bool)
    if n > 1:
        keys = np.random.Philox(key=seed).random_raw(n)
        mask[np.argsort(keys, kind="stable")[: max(1, n // HELD_OUT)]] = True
    return mask
