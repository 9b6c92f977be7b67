"""Generated images as files: one grid, or a PNG each. No torch."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]


def grid(images: Images, columns: int | None = None, *, gap: int = 1) -> Images:
    """One picture (h, w, c) of images (n, h, w, c) in rows, ``gap`` white pixels between them."""
    n, height, width, channels = images.shape
    columns = columns or max(1, round(float(np.sqrt(n))))
    rows = max(1, -(-n // columns))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def png(image: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, c) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG", optimize=True)
    return file.getvalue()


def as_file(images: Images, suffix: str, columns: int | None = None) -> bytes:
    """Images (n, h, w, c) as .npy, as .zip, or as one .png of so many columns."""
    if suffix == ".npy":
        file = io.BytesIO()
        np.save(file, images, allow_pickle=False)
        return file.getvalue()
    if suffix == ".zip":
        return archive(images)
    return png(grid(images, columns) if len(images) else np.full((1, 1, 1), 255, np.uint8))


def archive(images: Images) -> bytes:
    """A zip of one PNG an image, named by its row. The same bytes for the same images."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as members:
        for row, image in enumerate(images):
            members.writestr(zipfile.ZipInfo(f"{row:06d}.png"), png(image))
    return file.getvalue()
