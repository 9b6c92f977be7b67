"""Built-in datasets: what is known of them without opening a file, and where their files must lie.

Nothing here imports torch: the service asks these questions while it answers a request. Folders are those that
torchvision writes below its root.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from nidim.spec import DatasetFacts

DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
)
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
IDX_FILES = tuple(
    f"raw/{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)


@dataclass(frozen=True, kw_only=True)
class BuiltinInfo:
    """A built-in set; ``folder`` and ``files`` are below torchvision's root."""

    height: int
    width: int
    channels: Literal[1, 3]
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    license: str | None
    torchvision: str | None
    """The class in torchvision.datasets."""
    folder: str = ""
    files: tuple[str, ...] = ()


def _mnist_like(name: str, classes: tuple[str, ...], license_: str) -> BuiltinInfo:
    return BuiltinInfo(
        height=28,
        width=28,
        channels=1,
        classes=classes,
        n_train=60_000,
        n_test=10_000,
        license=license_,
        torchvision=name,
        folder=name,
        files=IDX_FILES,
    )


def _cifar(name: str, classes: tuple[str, ...], folder: str, files: tuple[str, ...]) -> BuiltinInfo:
    return BuiltinInfo(
        height=32,
        width=32,
        channels=3,
        classes=classes,
        n_train=50_000,
        n_test=10_000,
        license=None,
        torchvision=name,
        folder=folder,
        files=files,
    )


BUILTINS: dict[str, BuiltinInfo] = {
    "digits": BuiltinInfo(
        height=8,
        width=8,
        channels=1,
        classes=DIGITS,
        n_train=1438,
        n_test=359,
        license="CC BY 4.0",
        torchvision=None,
    ),
    "mnist": _mnist_like("MNIST", DIGITS, "CC BY-SA 3.0"),
    "fashion-mnist": _mnist_like("FashionMNIST", FASHION, "MIT"),
    "kmnist": _mnist_like("KMNIST", KUZUSHIJI, "CC BY-SA 4.0"),
    "cifar10": _cifar(
        "CIFAR10",
        CIFAR10,
        "cifar-10-batches-py",
        (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
    ),
    "cifar100": _cifar("CIFAR100", CIFAR100, "cifar-100-python", ("train", "test", "meta")),
    "stl10": BuiltinInfo(
        height=96,
        width=96,
        channels=3,
        classes=STL10,
        n_train=5000,
        n_test=8000,
        license=None,
        torchvision="STL10",
        folder="stl10_binary",
        files=("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    ),
}


@lru_cache
def _has_scikit_learn() -> bool:
    return find_spec("sklearn") is not None


def builtin_available(name: str, root: Path | None) -> bool:
    """Whether the files of a built-in lie below ``root``; digits come with scikit-learn. Opens nothing."""
    info = BUILTINS[name]
    if info.torchvision is None:
        return _has_scikit_learn()
    if root is None:
        return False
    return all((root / info.folder / file).is_file() for file in info.files)


def builtin_facts(name: str) -> DatasetFacts:
    """Sizes and counts of a built-in, whether or not its files are here."""
    info = BUILTINS[name]
    return DatasetFacts(
        name=name,
        n_train=info.n_train,
        n_test=info.n_test,
        height=info.height,
        width=info.width,
        channels=info.channels,
        classes=len(info.classes),
    )
