"""Load a built-in dataset.

digits comes with scikit-learn. The files of the others lie where torchvision puts them. MNIST and its kin and STL10
are plain bytes and are mapped as they lie. CIFAR is published as pickles, which are read and never unpickled
(:mod:`nidim.data.cifar`). torch is imported for downloads only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from pathlib import Path

import numpy as np

from nidim.data import cifar, pixels
from nidim.data.builtin import BUILTINS, BuiltinInfo, builtin_available
from nidim.data.sets import Dataset, ImageSet
from nidim.errors import DataError, DatasetUnavailable

SPLIT_SEED = 0
"""Of the order in which digits is split; changing it changes every published number on digits."""
IDX_SPLITS = ("train", "t10k")


def load_builtin(
    name: str, *, root: Path | None, allow_downloads: bool = False, image_size: int | None = None
) -> Dataset:
    """A built-in with images of its own size, or square ones of ``image_size``.

    Raises DatasetUnavailable when its files are neither below ``root`` nor may be downloaded there.
    """
    if name not in BUILTINS:
        raise DataError(f"{name} is not built in; the built-ins are {', '.join(BUILTINS)}.")
    info = BUILTINS[name]
    train, test = _digits() if info.torchvision is None else _from_files(name, info, root, allow_downloads)
    return Dataset(
        name=name,
        train=_resized(train, image_size),
        test=_resized(test, image_size),
        classes=info.classes,
        license=info.license,
        digest=_digest(train, test),
    )


def _digits() -> tuple[ImageSet, ImageSet]:
    """8×8 gray, 0..16 scaled to 0..255; in a seeded order, the last fifth is the test set."""
    rows = np.loadtxt(_digits_file(), delimiter=",", dtype=np.uint8)
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]
    order = np.argsort(np.random.Philox(key=SPLIT_SEED).random_raw(len(images)), kind="stable")
    images, labels = images[order], rows[order, -1].astype(np.int64)
    cut = len(images) - len(images) // 5
    return ImageSet(images[:cut], labels[:cut]), ImageSet(images[cut:], labels[cut:])


def _digits_file() -> Path:
    """The file of ``sklearn.datasets.load_digits``, whose import takes a hundred times as long as reading it."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DatasetUnavailable(
            "digits comes with scikit-learn, which is not installed: pip install scikit-learn."
        )
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _from_files(
    name: str, info: BuiltinInfo, root: Path | None, allow_downloads: bool
) -> tuple[ImageSet, ImageSet]:
    if not builtin_available(name, root):
        _download(name, info, root, allow_downloads)
    assert root is not None  # builtin_available and _download refuse None
    if name.startswith("cifar"):
        return _cifar(info, root)
    folder = root / info.folder
    train, test = _stl10(folder) if name == "stl10" else _idx_sets(folder / "raw")
    for images in (train.images, test.images):
        if images.shape[1:] != (info.height, info.width, info.channels):
            raise DataError(f"The files of {name} hold images of {images.shape[1:]}; fetch them again.")
    return train, test


def _download(name: str, info: BuiltinInfo, root: Path | None, allow_downloads: bool) -> None:
    if root is None and allow_downloads:
        raise DatasetUnavailable(f"{name} may be downloaded, but into no place: give the datasets directory.")
    if root is None or not allow_downloads:
        raise DatasetUnavailable(
            f"The files of {name} are not here: put torchvision's folder {info.folder} into the datasets "
            "directory, or allow downloads."
        )
    root.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(info, root)
    except (OSError, RuntimeError) as exc:
        raise DatasetUnavailable(f"{name} could not be downloaded: {exc}") from exc


def _fetch(info: BuiltinInfo, root: Path) -> None:
    """torchvision's download without its constructor, which would go on to read, and to unpickle."""
    from nidim._torchvision import import_torchvision

    kind = getattr(import_torchvision().datasets, str(info.torchvision))
    wanted = kind.__new__(kind)
    wanted.root = str(root)
    wanted.download()


def _cifar(info: BuiltinInfo, root: Path) -> tuple[ImageSet, ImageSet]:
    data = [name for name in info.files if name in cifar.MD5]
    parts = [name for name in data if not name.startswith("test")], [n for n in data if n.startswith("test")]
    train, test = (ImageSet(*cifar.read(root / info.folder, tuple(names))) for names in parts)
    return train, test


def _idx_sets(folder: Path) -> tuple[ImageSet, ImageSet]:
    def read(split: str) -> ImageSet:
        images = _idx(folder / f"{split}-images-idx3-ubyte")
        labels = _idx(folder / f"{split}-labels-idx1-ubyte")
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(
                f"Images and labels in {folder.name}/{split} do not belong together; fetch them again."
            )
        return ImageSet(images[..., None], np.asarray(labels, np.int64))

    train, test = (read(split) for split in IDX_SPLITS)
    return train, test


def _idx(path: Path) -> np.ndarray:
    """A map of the bytes of an IDX file: two zeros, type 8 (uint8), the number of sides, each side big-endian."""
    with path.open("rb") as stream:
        zeros, kind, sides = struct.unpack(">HBB", stream.read(4).ljust(4, b"\xff"))
        shape = struct.unpack(f">{sides}I", stream.read(4 * sides).ljust(4 * sides, b"\xff"))
    size = int(np.prod(shape, dtype=object))
    if zeros or kind != 8 or path.stat().st_size != 4 + 4 * sides + size:
        raise DataError(f"{path.name} is not a whole IDX file of bytes; fetch it again.")
    return np.memmap(path, np.uint8, "r", offset=4 + 4 * sides, shape=shape)


def _stl10(folder: Path) -> tuple[ImageSet, ImageSet]:
    def read(split: str) -> ImageSet:
        labels = np.fromfile(folder / f"{split}_y.bin", np.uint8).astype(np.int64) - 1
        planes = np.fromfile(folder / f"{split}_X.bin", np.uint8)
        if planes.size != len(labels) * 3 * 96 * 96:
            raise DataError(f"{split}_X.bin and {split}_y.bin do not belong together; fetch them again.")
        images = planes.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        return ImageSet(np.ascontiguousarray(images), labels)

    return read("train"), read("test")


def _resized(images: ImageSet, size: int | None) -> ImageSet:
    _, height, width, channels = images.images.shape
    if size is None or (height, width) == (size, size):
        return images
    return ImageSet(pixels.prepare_array(images.images, size=size, channels=channels), images.labels)


def _digest(*sets: ImageSet) -> str:
    whole = hashlib.sha256()
    for images in sets:
        whole.update(np.ascontiguousarray(images.images).data)
        whole.update(np.ascontiguousarray(images.labels).data)
    return "sha256:" + whole.hexdigest()
