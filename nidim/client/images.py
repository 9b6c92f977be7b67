"""Images as people have them, in batches as the server takes them. No input or output but the files that are named.

Arrays go as one .npy, files and PIL images as files. The pixels that the encoder sees are the same either way.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Images = Any
"""A path, bytes, a uint8 array (n, h, w[, c]), a PIL image, a torch tensor (n, c, h, w), or any iterable of those."""
CHANNELS = (1, 3, 4)
AS_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
LOSSY_BY_FAR = frozenset({"F", "I"})
PART_BYTES = 256
"""What a file costs in a form beside its content."""


@dataclass(frozen=True)
class Batch:
    """Images of one request: ``pixels`` or ``files``; ``first`` is the index of the first one among all."""

    first: int
    pixels: Pixels | None = None
    files: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.files) if self.pixels is None else len(self.pixels)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches instead of one."""
        cut = len(self) // 2
        if self.pixels is None:
            return Batch(self.first, None, self.files[:cut]), Batch(self.first + cut, None, self.files[cut:])
        return Batch(self.first, self.pixels[:cut]), Batch(self.first + cut, self.pixels[cut:])

    def body(self) -> Mapping[str, Any]:
        """As httpx's arguments."""
        if self.pixels is not None:
            return {"content": npy(self.pixels), "headers": {"Content-Type": "application/x-npy"}}
        return {"files": [("images", (str(i), data)) for i, data in enumerate(self.files)]}


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def batches(images: Images, *, most_images: int, most_bytes: int) -> Iterator[Batch]:
    """Batches of at most so many images and bytes (one that is larger goes alone), made as they are asked for.

    Raises TypeError and ValueError where something is no image, and OSError where a file cannot be read.
    """
    held = _Held()
    for unit in _units(images, most_images, most_bytes):
        if held.units and not held.takes(unit, most_images, most_bytes):
            yield held.batch()
            held = _Held(held.first + held.count)
        held.add(unit)
    if held.units:
        yield held.batch()


class _Held:
    """Files, or arrays of one shape, that become one batch."""

    def __init__(self, first: int = 0) -> None:
        self.first, self.count, self.bytes = first, 0, 0
        self.units: list[bytes | Pixels] = []

    def takes(self, unit: bytes | Pixels, most_images: int, most_bytes: int) -> bool:
        return (
            _kind(unit) == _kind(self.units[0])
            and self.count + _count(unit) <= most_images
            and self.bytes + _size(unit) <= most_bytes
        )

    def add(self, unit: bytes | Pixels) -> None:
        self.units.append(unit)
        self.count += _count(unit)
        self.bytes += _size(unit)

    def batch(self) -> Batch:
        arrays = [unit for unit in self.units if not isinstance(unit, bytes)]
        if not arrays:
            return Batch(self.first, None, tuple(unit for unit in self.units if isinstance(unit, bytes)))
        return Batch(self.first, arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def _kind(unit: bytes | Pixels) -> tuple[int, ...] | None:
    return None if isinstance(unit, bytes) else unit.shape[1:]


def _count(unit: bytes | Pixels) -> int:
    return 1 if isinstance(unit, bytes) else len(unit)


def _size(unit: bytes | Pixels) -> int:
    return len(unit) + PART_BYTES if isinstance(unit, bytes) else unit.nbytes


def _units(images: Images, most_images: int, most_bytes: int) -> Iterator[bytes | Pixels]:
    """Single files, and arrays that fit into one batch."""
    for item in _flat(images):
        if isinstance(item, bytes):
            yield item
            continue
        step = max(1, min(most_images, most_bytes // max(1, item[:1].nbytes)))
        for start in range(0, len(item), step):
            yield item[start : start + step]


def _flat(images: Images) -> Iterator[bytes | Pixels]:
    """Files and arrays (n, h, w[, c]), however they are nested."""
    if isinstance(images, str | os.PathLike):
        yield Path(images).read_bytes()
    elif isinstance(images, bytes | bytearray | memoryview):
        yield bytes(images)
    elif isinstance(images, np.ndarray):
        yield _array(images)
    elif _is_tensor(images):
        yield _array(_tensor(images))
    elif _is_picture(images):
        yield _file(images)
    elif isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise TypeError(
            f"{type(images).__name__} is no image; give paths, bytes, uint8 arrays (n, h, w[, c]), PIL images, "
            "or an iterable of those"
        )
    elif isinstance(images, tuple | list) and _is_labelled(images):
        yield from _flat(images[0])
    else:
        for item in images:
            yield from _flat(item)


def _is_tensor(item: Any) -> bool:
    return hasattr(item, "detach") and hasattr(item, "cpu")


def _is_picture(item: Any) -> bool:
    return hasattr(item, "getbands") and hasattr(item, "getexif")


def _is_labelled(item: Sequence[Any]) -> bool:
    """A batch of a DataLoader: an array of images, and arrays of labels, one value an image."""
    dims = [len(part.shape) if hasattr(part, "shape") else None for part in item]
    return len(dims) > 1 and (dims[0] or 0) >= 3 and all(dim is not None and dim < 2 for dim in dims[1:])


def _array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise ValueError(f"images must be uint8, 0 to 255; this array is {array.dtype}")
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3 and array.shape[2] in CHANNELS:
        raise ValueError(
            f"an array {array.shape} may be one colour image or many narrow ones; give (n, h, w, c): images[None]"
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in CHANNELS):
        raise ValueError(f"arrays must be (n, h, w) or (n, h, w, c) with c in 1, 3, 4; this is {array.shape}")
    return array


def _tensor(tensor: Any) -> NDArray[Any]:
    """A torch tensor as an array, channels last; floats that are exactly k/255 as those k."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    if array.ndim == 4 and array.shape[1] in CHANNELS:
        array = array.transpose(0, 2, 3, 1)
    elif array.ndim == 3 and array.shape[0] in CHANNELS and array.shape[2] not in CHANNELS:
        raise ValueError(
            f"a tensor {tuple(array.shape)} may be one image or several; give (n, c, h, w): images[None]"
        )
    if array.dtype.kind != "f":
        return array
    levels = array.astype(np.float64) * 255
    rounded = np.rint(levels)
    if rounded.size and (np.abs(levels - rounded).max() > 0.01 or rounded.min() < 0 or rounded.max() > 255):
        raise ValueError("floating-point images must be pixels / 255; were they normalised or augmented?")
    return rounded.astype(np.uint8)


def _file(picture: Any) -> bytes:
    """A PIL image as a file without loss, its EXIF orientation included."""
    if picture.mode in LOSSY_BY_FAR:
        raise ValueError(
            f"a PIL image of mode {picture.mode} has no fixed range; convert it to L, I;16 or RGB"
        )
    stream = io.BytesIO()
    if picture.mode == "CMYK":
        picture.save(stream, "TIFF")
    elif picture.mode in AS_PNG:
        picture.save(stream, "PNG", compress_level=1, exif=picture.getexif())
    else:
        picture.convert("RGB").save(stream, "PNG", compress_level=1, exif=picture.getexif())
    return stream.getvalue()


def as_array(item: Any) -> Any:
    """Numbers in lists as the array that they are; anything else as it is."""
    first = item
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return (
        np.asarray(item, dtype=np.float64) if isinstance(first, int | float) and first is not item else item
    )


def is_rows(item: Any) -> bool:
    """Whether ``item`` is embeddings (n, d) rather than images."""
    return _axes_of_floats(item) == 2


def is_vector(item: Any) -> bool:
    """Whether ``item`` is a single embedding (d,), which no image is."""
    return _axes_of_floats(item) == 1


def _axes_of_floats(item: Any) -> int | None:
    shape, dtype = getattr(item, "shape", None), str(getattr(item, "dtype", ""))
    return len(shape) if shape is not None and "float" in dtype else None


__all__: Sequence[str] = ("Batch", "Images", "as_array", "batches", "is_rows", "is_vector", "npy")
