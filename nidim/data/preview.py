"""Some images of a dataset as a sheet of pixels: to look at, without making the arrays of a training.

Rows are counted within a split, in the order that training and evaluation see. Members are found by the index, and only
the wanted ones are decoded; an archive that cannot be entered in the middle (tar.gz) is read up to the last of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from nidim.data import pixels
from nidim.data.arrays import ArraySource
from nidim.data.index import Index
from nidim.data.limits import ACCEPTED, ImageLimits
from nidim.data.parallel import decode
from nidim.data.sets import Dataset
from nidim.data.sources import open_source
from nidim.errors import BadImage, DataError

Split = Literal["train", "test"]
CHANGED = "The file is not the one that was indexed; upload the dataset again."


@dataclass(frozen=True)
class Wanted:
    """Rows [offset, offset + limit) of a split, as squares of ``size`` pixels."""

    split: Split
    offset: int
    limit: int
    size: int


@dataclass(frozen=True)
class Preview:
    """``images`` uint8 (n, size, size, c); ``labels`` (n,), -1 where there is none."""

    images: np.ndarray
    labels: np.ndarray

    def npy(self) -> bytes:
        """The images as an .npy file."""
        stream = io.BytesIO()
        np.save(stream, self.images, allow_pickle=False)
        return stream.getvalue()

    def png(self) -> bytes:
        """The images as one picture, row by row, ⌈√n⌉ in a row; the rest of the last row is black."""
        n, size, _, channels = self.images.shape
        across = max(1, math.isqrt(max(n - 1, 0)) + 1)
        down = max(1, -(-n // across))
        sheet = np.zeros((down * across, size, size, channels), np.uint8)
        sheet[:n] = self.images
        grid = sheet.reshape(down, across, size, size, channels).swapaxes(1, 2)
        flat = grid.reshape(down * size, across * size, channels)
        stream = io.BytesIO()
        Image.fromarray(flat[..., 0] if channels == 1 else flat).save(stream, "PNG")
        return stream.getvalue()


def of_dataset(dataset: Dataset, wanted: Wanted) -> Preview:
    """Rows of arrays that are there."""
    split = getattr(dataset, wanted.split)
    rows = slice(wanted.offset, wanted.offset + wanted.limit)
    images = np.asarray(split.images[rows])
    labels = np.full(len(images), -1) if split.labels is None else split.labels[rows]
    shown = pixels.prepare_array(images, size=wanted.size, channels=images.shape[3])
    return Preview(shown, np.asarray(labels, np.int64))


def of_archive(path: Path, index: Index, wanted: Wanted, *, limits: ImageLimits = ACCEPTED) -> Preview:
    """Rows of an ingested file. Raises DataError when it is not the one that was indexed."""
    is_test = index.members.is_test.unpack().astype(bool)
    rows = np.flatnonzero(is_test == (wanted.split == "test"))[wanted.offset :][: wanted.limit]
    shape = (wanted.size, wanted.size, index.image.channels)
    images = np.empty((len(rows), *shape), np.uint8)
    read = _array_rows if index.format in ("npy", "npz") else _member_rows
    found = 0
    for image in read(path, index, rows, shape, limits) if len(rows) else ():
        images[found] = image
        found += 1
    if found < len(rows):
        raise DataError(CHANGED)
    return Preview(images, index.members.labels.unpack()[rows].astype(np.int64))


def _array_rows(
    path: Path, _: Index, rows: np.ndarray, shape: tuple[int, int, int], limits: ImageLimits
) -> Iterator[np.ndarray]:
    size, channels = shape[0], shape[2]
    start = 0
    with ArraySource(path, limits) as source:
        for chunk in source.chunks():
            here = rows[(rows >= start) & (rows < start + len(chunk))] - start
            if len(here):
                yield from pixels.prepare_array(chunk[here], size=size, channels=channels)
            start += len(chunk)
            if start > rows[-1]:
                return


def _member_rows(
    path: Path, index: Index, rows: np.ndarray, shape: tuple[int, int, int], limits: ImageLimits
) -> Iterator[np.ndarray]:
    size, _, channels = shape
    ordinals = index.members.ordinals.unpack()[rows]
    mask = np.zeros(int(ordinals[-1]) + 1, bool)
    mask[ordinals] = True
    with open_source(path, index.format, limits) as source:
        for member in source.read(mask):
            if member.data is None:
                raise DataError(CHANGED)
            try:
                yield pixels.prepare(decode(member.data, limits=limits), size=size, channels=channels)
            except BadImage as exc:
                raise DataError(f"{member.name}: {exc}. {CHANGED}") from exc
