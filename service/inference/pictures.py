"""Generated images in the form that a client wants."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from nidim.generate.pictures import archive, grid, png

NPY, ZIP = "application/x-npy", "application/zip"


def written(images: NDArray[np.uint8], media: str, columns: int | None = None) -> bytes:
    """Images (n, h, w, c) as .npy, as a zip of PNGs, or else as one PNG grid of so many columns."""
    if media == NPY:
        file = io.BytesIO()
        np.save(file, images, allow_pickle=False)
        return file.getvalue()
    if media == ZIP:
        return archive(images)
    return png(grid(images, columns) if len(images) else np.full((1, 1, 1), 255, np.uint8))
