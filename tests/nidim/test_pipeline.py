"""A training from Python: what cannot be trained on is said before it begins."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

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


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    train, test = digits.train, digits.test
    return dataclasses.replace(
        digits,
        train=ImageSet(train.images[:256], train.labels[:256]),
        test=ImageSet(test.images[:0], test.labels[:0]),
    )


def test_without_held_out_images_there_is_a_bundle_and_less_of_a_report(
    digits: Dataset, few: Dataset, tmp_path: Path
) -> None:
    outcome = pipeline.run(TrainSpec.model_validate(SMALL), few, out_dir=str(tmp_path / "x"), onnx=False)
    assert outcome.report is not None
    assert outcome.report.mi_nats is None
    page = (tmp_path / "x" / bundle.PAGE).read_text()
    assert "Does the embedding follow the law?" not in page
    assert "How it got there" in page
    assert bundle.load(tmp_path / "x").embed(digits.test.images[:3]).shape == (3, 2)


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def plainly(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plainly")
    pipeline.run(TrainSpec.model_validate(SMALL), few, out_dir=directory, onnx=False)
    return directory


@pytest.mark.parametrize(
    "given",
    [contextlib.nullcontext, doubles, torch.no_grad, torch.inference_mode, lambda: torch.device("meta")],
    ids=["nothing", "float64", "no_grad", "inference_mode", "another device"],
)
def test_what_a_caller_has_set_for_torch_changes_no_training_and_is_there_after_it(
    given: Callable[[], contextlib.AbstractContextManager[object]],
    few: Dataset,
    plainly: Path,
    tmp_path: Path,
) -> None:
    def state() -> list[object]:
        numbers = torch.get_rng_state().tolist()
        return [
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            numbers,
        ]

    images = few.train.images[:5]
    with given():
        before = state()
        pipeline.run(TrainSpec.model_validate(SMALL), few, out_dir=tmp_path, onnx=False)
        found = bundle.load(tmp_path).embed(images)
        assert state() == before
    assert (tmp_path / bundle.WEIGHTS).read_bytes() == (plainly / bundle.WEIGHTS).read_bytes()
    np.testing.assert_array_equal(found, bundle.load(plainly).embed(images))


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
