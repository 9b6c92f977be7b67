"""Images in one array: .npy, or .npz with ``images``, optional ``labels``, ``test_images``, ``test_labels``.

Images are uint8 (n, h, w) or (n, h, w, c), c in 1, 3, 4. Headers are read by hand (``headers``), sizes must agree
to the byte, and values are streamed in chunks, so that neither a large array nor a lying one fills the memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

from nidim.data.headers import ArrayHeader, read_header
from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.zips import DAMAGED, open_zip
from nidim.errors import DataError

CHUNK = 4 * 2**20
KEYS = ("images", "labels", "test_images", "test_labels")
MAX_LABEL_BYTES = 1024


@dataclass(frozen=True)
class _Entry:
    """One array of the file: its name for messages, its size in bytes, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


class ArraySource:
    """The arrays of an .npy or .npz; ``train`` and ``test`` are the headers of their images."""

    def __init__(self, path: Path, limits: ImageLimits) -> None:
        self._limits = limits
        self._zip: zipfile.ZipFile | None = None
        self._entries = self._open_entries(path)
        try:
            self.train = self._image_header("images")
            test = self._image_header("test_images") if "test_images" in self._entries else None
            self.test = test if test is not None and test.shape[0] else None
            self._check()
        except DataError:
            self.__exit__()
            raise

    def _open_entries(self, path: Path) -> dict[str, _Entry]:
        if not zipfile.is_zipfile(path):
            return {"images": _Entry("the array", path.stat().st_size, lambda: path.open("rb"))}
        archive = self._zip = open_zip(path, self._limits)
        return {key: _zip_entry(archive, info) for key, info in _arrays(archive).items()}

    @property
    def unknown(self) -> list[str]:
        """Arrays that are none of ours."""
        return sorted(set(self._entries) - set(KEYS))

    def labels(self, key: str) -> np.ndarray | None:
        """``labels`` or ``test_labels``: (n,) of integers or strings, or None where the file has none."""
        images = self.train if key == "labels" else self.test
        if key not in self._entries or images is None:
            return None
        entry = self._entries[key]
        header = self._header(entry)
        _check_labels(header, key, images.shape[0])
        values = np.frombuffer(b"".join(_values(entry, header, [header.nbytes])), header.dtype)
        return values.reshape(-1)

    def chunks(self) -> Iterator[np.ndarray]:
        """uint8 (k, h, w[, c]): all training images, then all test images, in order."""
        yield from self._chunks("images", self.train)
        if self.test is not None:
            yield from self._chunks("test_images", self.test)

    def _chunks(self, key: str, header: ArrayHeader) -> Iterator[np.ndarray]:
        n, row_bytes = header.shape[0], header.nbytes // header.shape[0]
        step = max(1, CHUNK // row_bytes)
        counts = [min(step, n - start) for start in range(0, n, step)]
        for data in _values(self._entries[key], header, [k * row_bytes for k in counts]):
            yield np.frombuffer(data, np.uint8).reshape(-1, *header.shape[1:])

    def _header(self, entry: _Entry) -> ArrayHeader:
        try:
            with entry.open() as stream:
                header, _ = read_header(stream, name=entry.name)
        except DAMAGED as exc:
            raise DataError(f"{entry.name} is damaged; send the file again.") from exc
        if header.offset + header.nbytes != entry.size:
            raise DataError(
                f"{entry.name} should have {header.offset + header.nbytes} bytes by its header {header.shape} "
                f"but has {entry.size}."
            )
        return header

    def _image_header(self, key: str) -> ArrayHeader:
        header = self._header(self._entries[key])
        shape = header.shape
        if header.dtype != np.uint8:
            raise DataError(f"{key} must be uint8 with values 0..255, not {header.dtype}.")
        if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,), (4,)) or 0 in shape[1:]:
            raise DataError(
                f"{key} must have shape (n, h, w) or (n, h, w, c) with c in 1, 3, 4, not {shape}."
            )
        if shape[1] * shape[2] > self._limits.max_pixels:
            raise OverLimit(
                f"{key} has images of {shape[1]}×{shape[2]}; the limit is {self._limits.max_pixels}."
            )
        return header

    def _check(self) -> None:
        if self.train.shape[0] == 0:
            raise DataError("The array holds no image.")
        if "test_labels" in self._entries and self.test is None:
            raise DataError("The .npz has test_labels without test_images.")
        if self.test is not None and self.test.shape[1:] != self.train.shape[1:]:
            raise DataError("images and test_images must have the same height, width and channels.")
        items = self.train.shape[0] + (self.test.shape[0] if self.test else 0)
        if items > self._limits.max_members:
            raise OverLimit(f"The arrays hold {items} images; the limit is {self._limits.max_members}.")
        if sum(entry.size for entry in self._entries.values()) > self._limits.max_bytes:
            raise OverLimit(f"The arrays are larger than the limit of {self._limits.max_bytes} bytes.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._zip is not None:
            self._zip.close()


def is_npz(path: Path) -> bool:
    """Whether a zip is an .npz: nothing but .npy members at the top."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (*DAMAGED, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") and "/" not in name for name in names)


def _arrays(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(infos) < len(archive.infolist()):
        raise DataError("The .npz has two arrays of the same name.")
    if "images" not in infos:
        raise DataError(
            f'The .npz has no array "images"; name them {", ".join(KEYS)}. It has: '
            + ", ".join(sorted(infos)[:10])[:200]
        )
    return infos


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    return _Entry(info.filename.removesuffix(".npy")[:100], info.file_size, lambda: archive.open(info))


def _values(entry: _Entry, header: ArrayHeader, sizes: list[int]) -> Iterator[bytes]:
    """The values in pieces of the given sizes; the stream must end with the last."""
    try:
        with entry.open() as stream:
            _exactly(stream, header.offset, entry.name)
            for size in sizes:
                yield _exactly(stream, size, entry.name)
            if stream.read(1):
                raise DataError(f"{entry.name} is longer than its header says.")
    except DAMAGED as exc:
        raise DataError(f"{entry.name} is damaged; send the file again.") from exc


def _exactly(stream: IO[bytes], size: int, name: str) -> bytes:
    buffer = io.BytesIO()
    while (left := size - buffer.tell()) > 0 and (piece := stream.read(min(left, CHUNK))):
        buffer.write(piece)
    if left > 0:
        raise DataError(f"{name} ends early; send the file again.")
    return buffer.getvalue()


def _check_labels(header: ArrayHeader, key: str, n: int) -> None:
    if header.shape not in ((n,), (n, 1)):
        raise DataError(f"{key} must have shape ({n},) as there are {n} images, not {header.shape}.")
    if header.dtype.kind not in "iuUS" or header.dtype.itemsize > MAX_LABEL_BYTES:
        raise DataError(f"{key} must be integers or short strings, not {header.dtype}.")
