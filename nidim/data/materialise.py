"""From file and index to uint8 arrays on disk, once per (file, size, channels).

Rows are appended to .npy files in a folder of a temporary name, which takes its own name when everything is
written: a folder that exists is complete, and two processes may build it at once. Training maps the files, so a set
may be larger than the memory. As long as an array lives its folder is held (``holding``).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from nidim.data import pixels
from nidim.data.arrays import ArraySource
from nidim.data.holding import held, hold_while, take
from nidim.data.index import Index
from nidim.data.limits import ACCEPTED, ImageLimits
from nidim.data.members import Member
from nidim.data.parallel import decode, map_members
from nidim.data.progress import Progress, quiet
from nidim.data.sets import Dataset, ImageSet
from nidim.data.sources import open_source
from nidim.errors import BadImage, DataError

STALE_S = 6 * 3600.0
"""A temporary folder in which nothing was written for so long was left by a process that died."""
TEMPORARY = re.compile(r"\.[0-9a-f]{16}-\d+x\d\.")
SPLITS = ("train", "test")


def load_archive(
    path: Path,
    index: Index,
    *,
    name: str,
    cache_dir: Path,
    image_size: int | None = None,
    channels: int | None = None,
    license: str | None = None,  # noqa: A002  the field's name in the API
    limits: ImageLimits = ACCEPTED,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset of an ingested file, square images of ``image_size`` (default: the shorter side).

    Raises DataError when the file is not the one that was indexed.
    """
    size = image_size or min(index.image.height, index.image.width)
    depth = channels or index.image.channels
    target = cache_dir / f"{index.fingerprint}-{size}x{depth}"
    descriptor = _taken(target, lambda: _build(target, path, index, size, depth, limits, progress or quiet))
    try:
        train, test = _open(target, "train"), _open(target, "test")
        for split in (train, test):
            hold_while(target, split.images)
    finally:
        os.close(descriptor)
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=index.classes,
        license=license,
        digest=index.digest,
        skipped=index.skipped,
    )


def _taken(target: Path, build: Callable[[], None]) -> int:
    """A descriptor that keeps ``target`` from being taken out of the cache; it is built first if it is not there."""
    while True:
        if not target.is_dir():
            build()
        with contextlib.suppress(FileNotFoundError):  # it was taken away between the two lines
            return take(target, touch=True)


def _build(
    target: Path, path: Path, index: Index, size: int, depth: int, limits: ImageLimits, report: Progress
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    temp = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with held(path):
            _write_images(temp, _rows(path, index, size, depth, limits), index, (size, size, depth), report)
        _write_labels(temp, index)
        _publish(temp, target)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _publish(temp: Path, target: Path) -> None:
    try:
        temp.replace(target)
    except OSError:
        # Another process was first; what it wrote is the same.
        if not target.is_dir():
            raise


def _rows(path: Path, index: Index, size: int, depth: int, limits: ImageLimits) -> Iterator[np.ndarray]:
    """uint8 (k, size, size, depth), in the order of the index."""
    if index.format in ("npy", "npz"):
        return _array_rows(path, size, depth, limits)
    return _member_rows(path, index, size, depth, limits)


def _array_rows(path: Path, size: int, depth: int, limits: ImageLimits) -> Iterator[np.ndarray]:
    with ArraySource(path, limits) as source:
        for chunk in source.chunks():
            yield pixels.prepare_array(chunk, size=size, channels=depth)


def _member_rows(
    path: Path, index: Index, size: int, depth: int, limits: ImageLimits
) -> Iterator[np.ndarray]:
    def prepare(member: Member) -> np.ndarray:
        if member.data is None:
            raise DataError(f"{member.name} can no longer be read: the file is not the one that was indexed.")
        try:
            return pixels.prepare(decode(member.data, limits=limits), size=size, channels=depth)
        except BadImage as exc:
            raise DataError(f"{member.name}: {exc}; the file is not the one that was indexed.") from exc

    with open_source(path, index.format, limits) as source:
        for _, row in map_members(prepare, source.read(_wanted(index))):
            yield row[None]


def _wanted(index: Index) -> np.ndarray:
    ordinals = index.members.ordinals.unpack()
    wanted = np.zeros(int(ordinals[-1]) + 1, bool)
    wanted[ordinals] = True
    return wanted


def _write_images(
    folder: Path, rows: Iterator[np.ndarray], index: Index, shape: tuple[int, int, int], report: Progress
) -> None:
    is_test = index.members.is_test.unpack().astype(bool)
    done = 0
    with (folder / "train.npy").open("wb") as train, (folder / "test.npy").open("wb") as test:
        _write_header(train, (index.splits.train, *shape))
        _write_header(test, (index.splits.test, *shape))
        for block in rows:
            mask = is_test[done : done + len(block)]
            if len(mask) < len(block):
                break
            train.write(block[~mask].data)
            test.write(block[mask].data)
            done += len(block)
            report(done, index.items)
        _sync(train)
        _sync(test)
    if done != index.items:
        raise DataError("The file has another number of images than its index; upload it again.")


def _write_header(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _write_labels(folder: Path, index: Index) -> None:
    labels, is_test = index.members.labels.unpack(), index.members.is_test.unpack().astype(bool)
    for split, mask in zip(SPLITS, (~is_test, is_test), strict=True):
        if mask.any() and (labels[mask] >= 0).all():
            with (folder / f"{split}_labels.npy").open("wb") as stream:
                np.save(stream, labels[mask].astype(np.int64), allow_pickle=False)
                _sync(stream)


def _sync(stream: IO[bytes]) -> None:
    """Onto the disk: the folder must not take its name before its files are there."""
    stream.flush()
    os.fsync(stream.fileno())


def _open(folder: Path, split: str) -> ImageSet:
    labels = folder / f"{split}_labels.npy"
    return ImageSet(
        _map(folder / f"{split}.npy"),
        np.load(labels, allow_pickle=False) if labels.is_file() else None,
    )


def _map(path: Path) -> np.ndarray:
    """A map of the array; an empty one cannot be mapped."""
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _remove_stale(cache_dir: Path) -> None:
    for folder in cache_dir.iterdir():
        if TEMPORARY.match(folder.name):
            with contextlib.suppress(OSError):  # it may take its own name while we look
                newest = max(f.stat().st_mtime for f in (folder, *folder.iterdir()))
                if time.time() - newest > STALE_S:
                    shutil.rmtree(folder, ignore_errors=True)
