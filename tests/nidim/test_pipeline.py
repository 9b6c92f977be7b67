"""A training from Python: what cannot be trained on is said before it begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nidim import bundle, pipeline
from nidim.data import Dataset, ImageSet, load_builtin
from nidim.errors import DataError, SpecError
from nidim.spec import TrainSpec

SMALL = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "epochs": 1,
    "evaluation": "quick",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_builtin("digits", root=None)


def test_without_held_out_images_there_is_a_bundle_and_less_of_a_report(
    digits: Dataset, tmp_path: Path
) -> None:
    train, test = digits.train, digits.test
    few = dataclasses.replace(
        digits,
        train=ImageSet(train.images[:256], train.labels[:256]),
        test=ImageSet(test.images[:0], test.labels[:0]),
    )
    outcome = pipeline.run(TrainSpec.model_validate(SMALL), few, out_dir=str(tmp_path / "x"), onnx=False)
    assert outcome.report is not None
    assert outcome.report.mi_nats is None
    page = (tmp_path / "x" / bundle.PAGE).read_text()
    assert "Does the embedding follow the law?" not in page
    assert "How it got there" in page
    assert bundle.load(tmp_path / "x").embed(test.images[:3]).shape == (3, 2)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("held_out", [1, 2])
def test_of_a_handful_of_images_there_is_a_page(
    digits: Dataset, tmp_path: Path, dim: int, held_out: int
) -> None:
    train, test = digits.train, digits.test
    few = dataclasses.replace(
        digits,
        train=ImageSet(train.images[:4], train.labels[:4]),
        test=ImageSet(test.images[:held_out], test.labels[:held_out]),
    )
    spec = TrainSpec.model_validate({**SMALL, "encoder": {"kind": "conv", "dim": dim, "width": 4}})
    pipeline.run(spec, few, out_dir=tmp_path / "x", onnx=False)
    assert "Beside the law" in (tmp_path / "x" / bundle.PAGE).read_text()


def test_images_of_another_size_are_refused_before_the_training(digits: Dataset, tmp_path: Path) -> None:
    spec = TrainSpec.model_validate({**SMALL, "image_size": 16})
    with pytest.raises(
        SpecError, match="8 x 8 pixels, not 16 x 16; open the dataset with image_size=16"
    ) as found:
        pipeline.run(spec, digits, out_dir=tmp_path)
    assert found.value.pointer == "/image_size"


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((5, 8, 8, 1)), r"not float64 \(5, 8, 8, 1\).*images \* 255"),
        (np.zeros((5, 8, 8), np.uint8), r"not uint8 \(5, 8, 8\)"),
        ([[1, 2]], r"not list \(1, 2\)"),
    ],
    ids=["floats", "without channels", "a list"],
)
def test_images_are_bytes_of_four_axes(images: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        ImageSet(images)


def test_labels_are_as_many_as_images() -> None:
    with pytest.raises(DataError, match=r"5 images need as many labels \(n,\), not \(4,\)"):
        ImageSet(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(4, np.int64))
