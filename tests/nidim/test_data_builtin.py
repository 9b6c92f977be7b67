"""Built-in datasets, the import of torchvision, and what importing nidim.data costs."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nidim._torchvision import import_torchvision
from nidim.data import BUILTINS, builtin_available, builtin_facts, builtin_files, load_builtin
from nidim.errors import DataError, DatasetUnavailable

DIGITS_DIGEST = "sha256:a6a655f2b389e803b03707972b62f20a03f2fd254d6913fc476208be305ae6f7"


def test_digits_are_always_here() -> None:
    assert builtin_available("digits", None)
    dataset = load_builtin("digits", root=None)
    assert dataset.facts == builtin_facts("digits")
    assert dataset.train.images.dtype == np.uint8
    assert (dataset.train.images.min(), dataset.train.images.max()) == (0, 255)
    assert dataset.license == "CC BY 4.0"


def test_digits_are_split_the_same_way_everywhere() -> None:
    """The test images of the published numbers: their digest is part of the contract."""
    dataset = load_builtin("digits", root=None)
    assert dataset.digest == DIGITS_DIGEST
    together = np.concatenate([dataset.train.images, dataset.test.images])
    from sklearn.datasets import load_digits

    original = np.rint(load_digits().images * 255 / 16).astype(np.uint8)[..., None]
    assert sorted(map(bytes, together)) == sorted(map(bytes, original))
    assert dataset.test.labels is not None
    assert np.bincount(dataset.test.labels).min() > 20


def test_digits_in_another_size() -> None:
    assert load_builtin("digits", root=None, image_size=16).train.images.shape == (1438, 16, 16, 1)


@pytest.mark.parametrize("name", [name for name in BUILTINS if name != "digits"])
def test_absent_files_are_said_to_be_absent(tmp_path: Path, name: str) -> None:
    assert not builtin_available(name, None)
    assert not builtin_available(name, tmp_path)
    for root in (None, tmp_path):
        with pytest.raises(DatasetUnavailable, match="datasets directory, or allow downloads"):
            load_builtin(name, root=root)
    assert builtin_facts(name).classes == len(BUILTINS[name].classes)


@pytest.mark.parametrize("name", [name for name in BUILTINS if name != "digits"])
def test_availability_asks_for_every_file(tmp_path: Path, name: str) -> None:
    info = BUILTINS[name]
    for file in info.files:
        assert not builtin_available(name, tmp_path)
        (tmp_path / info.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / info.folder / file).write_bytes(b"x")
    assert builtin_available(name, tmp_path)


@pytest.mark.parametrize("name", [name for name in BUILTINS if name != "digits"])
def test_damaged_files_are_a_data_error(tmp_path: Path, name: str) -> None:
    test_availability_asks_for_every_file(tmp_path, name)
    with pytest.raises(DataError):
        load_builtin(name, root=tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="digits, mnist"):
        load_builtin("imagenet", root=None)


def test_a_failed_download_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(builtin_files, "_fetch", refuse)
    with pytest.raises(DatasetUnavailable, match="could not be downloaded: no network"):
        load_builtin("mnist", root=tmp_path / "new", allow_downloads=True)


def test_a_download_needs_a_place() -> None:
    with pytest.raises(DatasetUnavailable, match="give the datasets directory"):
        load_builtin("mnist", root=None, allow_downloads=True)


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(struct.pack(">HBB", 0, 8, values.ndim) + shape + values.tobytes())


def test_idx_files_are_mapped(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"KMNIST/raw/{split}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"KMNIST/raw/{split}-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))
    dataset = load_builtin("kmnist", root=tmp_path)
    assert np.array_equal(dataset.train.images, images[..., None])
    assert isinstance(dataset.train.images, np.memmap)
    assert dataset.test.labels is not None
    assert dataset.test.labels.tolist() == [0, 1, 2, 3, 4]


def test_stl10_is_read_column_by_column(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes([1, 10]))
    dataset = load_builtin("stl10", root=tmp_path)
    assert np.array_equal(dataset.train.images, pixels)
    assert dataset.train.labels is not None
    assert dataset.train.labels.tolist() == [0, 9]


def test_mnist_is_what_torchvision_reads(real_data: Path) -> None:
    dataset = load_builtin("mnist", root=real_data / "torchvision")
    assert dataset.facts == builtin_facts("mnist")
    reference = import_torchvision().datasets.MNIST(str(real_data / "torchvision"), train=False)
    assert np.array_equal(dataset.test.images[..., 0], reference.data.numpy())
    assert dataset.test.labels is not None
    assert np.array_equal(dataset.test.labels, reference.targets.numpy())


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_torchvision_can_be_imported_often_and_works() -> None:
    code = """
from nidim._torchvision import import_torchvision
first = import_torchvision()
import torchvision, torch
assert import_torchvision() is first is torchvision
assert torchvision.models.resnet18(weights=None, num_classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
from torchvision.transforms import v2
print(v2.functional.horizontal_flip(torch.arange(3.).reshape(1, 1, 3)).tolist())
"""
    assert run(code).strip() == "[[[2.0, 1.0, 0.0]]]"


def test_importing_the_package_is_cheap() -> None:
    heavy = ("torch", "torchvision", "sklearn", "scipy", "pyarrow", "matplotlib")
    code = f"import sys, nidim.data, nidim.data.ingest_main; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).strip() == "[]"
    assert run(code.replace("nidim.data,", "nidim.data, scipy,", 1)).strip() == "['scipy']"
