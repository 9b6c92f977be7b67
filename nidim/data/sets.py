"""Dataset: images in memory or on disk as one uint8 array for training and one for test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nidim.errors import DataError
from nidim.spec import DatasetFacts

if TYPE_CHECKING:
    from nidim.data.index import Skipped


@dataclass(frozen=True)
class ImageSet:
    """``images`` uint8 (n, h, w, c), an ndarray or a read-only memmap; ``labels`` int64 (n,) or None.

    Raises DataError for anything else, before a training is spent on it.
    """

    images: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.images), getattr(self.images, "dtype", type(self.images).__name__)
        if dtype != np.uint8 or len(shape) != 4:
            raise DataError(
                f"Images are a NumPy array uint8 (n, h, w, c) with values 0 to 255, not {dtype} {shape}."
                " Of floats in [0, 1]: (images * 255).round().astype(numpy.uint8); gray ones: images[..., None]."
            )
        if self.labels is not None and np.shape(self.labels) != shape[:1]:
            raise DataError(f"{shape[0]} images need as many labels (n,), not {np.shape(self.labels)}.")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """Two sets of the same height, width and channels; ``digest`` is that of what they were made from."""

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    license: str | None
    digest: str
    skipped: Skipped | None = None
    """What could not be used of the file that they are from."""

    @property
    def facts(self) -> DatasetFacts:
        _, height, width, channels = self.train.images.shape
        return DatasetFacts(
            name=self.name,
            n_train=len(self.train),
            n_test=len(self.test),
            height=height,
            width=width,
            channels=channels,
            classes=len(self.classes),
        )
