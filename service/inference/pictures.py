"""Generated images in the form that a client wants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nidim.generate.pictures import as_file

SUFFIXES = {"application/x-npy": ".npy", "application/zip": ".zip", "image/png": ".png"}


def written(images: NDArray[np.uint8], media: str, columns: int | None = None) -> bytes:
    """Images (n, h, w, c) as .npy, as a zip of PNGs, or as one PNG grid of so many columns."""
    return as_file(images, SUFFIXES[media], columns)
