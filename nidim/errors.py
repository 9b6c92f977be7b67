"""Errors of the library.

    NidimError                     anything that a caller can mend
    ├── SpecError                  a spec contradicts itself, or does not fit its dataset
    ├── DataError                  a dataset cannot be used as a whole
    │   └── DatasetUnavailable     a built-in whose files are not on this machine
    ├── BadImage                   one image cannot be decoded (it fails alone)
    │   └── ImageTooLarge          one image is over the pixel bound
    ├── BundleError                a stored encoder is incomplete, altered or of an unknown format
    ├── CheckpointError            a checkpoint does not belong to this spec, or is damaged
    └── TrainingDiverged           the loss is no longer a finite number

A docstring is the default message, written for the person who has to mend it.
"""

from __future__ import annotations

import inspect


class NidimError(Exception):
    """Something went wrong in nidim."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class SpecError(NidimError):
    """The spec contradicts itself; change one of the named fields.

    ``pointer`` is a JSON pointer into the spec, such as ``/noise/sigma``.
    """

    def __init__(self, message: str | None = None, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class DataError(NidimError):
    """The dataset cannot be used; give an archive of images, an .npz, .npy or .parquet file."""


class DatasetUnavailable(DataError):
    """The files of this built-in dataset are not here; give its directory, or allow downloads."""


class BadImage(NidimError):
    """The image cannot be decoded; send a whole PNG, JPEG, WebP, BMP, GIF or TIFF file."""


class ImageTooLarge(BadImage):
    """The image has more pixels than the limit; send a smaller one."""


class BundleError(NidimError):
    """The stored encoder is incomplete, altered, or of a format that this version cannot read."""


class CheckpointError(NidimError):
    """The checkpoint is damaged or belongs to another spec; start without it."""


class TrainingDiverged(NidimError):
    """The loss is no longer a finite number; lower the learning rate or raise the noise."""
