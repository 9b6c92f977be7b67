"""The datasets of tables: built-ins, archives of images, and the first classes of either."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nidim.data import BUILTINS, Dataset, ImageSet, load_builtin, open_path
from nidim.errors import DataError

ARCHIVES = {"cifar10-jpeg": "cifar10-jpeg.zip", "tiny-imagenet-100": "tiny-imagenet-100.zip"}
"""Files that are looked for in the folder of datasets and in the one above it, ``train/<class>/*`` and ``test/...``."""


@dataclasses.dataclass(frozen=True)
class SetName:
    """A dataset, its images scaled to ``image_size`` (None: as they are), only the first ``classes`` (None: all).

    ``held_out``: share of all its images that is held out, chosen at random; None: the test images that it has.
    """

    name: str
    image_size: int | None = None
    classes: int | None = None
    held_out: float | None = None


def open_set(wanted: SetName, *, root: Path | None, allow_downloads: bool) -> Dataset:
    """The dataset. Raises DataError if it is not there."""
    if wanted.name in BUILTINS:
        whole = load_builtin(
            wanted.name, root=root, allow_downloads=allow_downloads, image_size=wanted.image_size
        )
    else:
        whole = open_path(_archive(wanted.name, root), name=wanted.name, image_size=wanted.image_size)
    if wanted.classes is not None:
        whole = first_classes(whole, wanted.classes)
    return whole if wanted.held_out is None else divided(whole, wanted.held_out)


def first_classes(whole: Dataset, count: int) -> Dataset:
    """The images of the first ``count`` classes in the order of their names. Raises DataError without labels."""
    if not 1 <= count <= len(whole.classes):
        raise DataError(f"{whole.name} has {len(whole.classes)} classes, not {count}.")
    return dataclasses.replace(
        whole,
        train=_below(whole.train, count),
        test=_below(whole.test, count),
        classes=whole.classes[:count],
        digest=f"{whole.digest}, first {count} classes",
    )


def divided(whole: Dataset, held_out: float) -> Dataset:
    """All images, a share of ``held_out`` of them as test images: always the same ones, chosen at random."""
    parts = (whole.train, whole.test)
    images = np.concatenate([np.asarray(part.images) for part in parts])
    known = [part.labels for part in parts if part.labels is not None]
    labels = np.concatenate(known) if len(known) == len(parts) else None
    order = np.random.default_rng(0).permutation(len(images))
    size = round(held_out * len(images))
    if not 0 < size < len(images):
        raise DataError(f"{held_out:g} of {len(images)} images leaves none to train on or none to hold out.")

    def of(rows: NDArray[np.int64]) -> ImageSet:
        rows = np.sort(rows)
        return ImageSet(images[rows], None if labels is None else labels[rows])

    return dataclasses.replace(
        whole,
        train=of(order[size:]),
        test=of(order[:size]),
        digest=f"{whole.digest}, {held_out:g} of all held out",
    )


def _below(images: ImageSet, count: int) -> ImageSet:
    if images.labels is None:
        raise DataError("These images have no labels, so no classes can be chosen.")
    rows = np.flatnonzero(images.labels < count)
    return ImageSet(images.images[rows], images.labels[rows])


def _archive(name: str, root: Path | None) -> Path:
    file = ARCHIVES[name]
    folders = [] if root is None else [root, root.resolve().parent]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise DataError(f"{file} is needed, in the folder that --datasets-dir names or in the one above it.")
