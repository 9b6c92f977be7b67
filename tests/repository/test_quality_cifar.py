"""The script that waits for a GPU, at a size for a CPU: trained in pieces, read at the end, seeds pooled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import quality_cifar
from nidim.errors import CheckpointError

SIZE = {"encoder": {"kind": "conv", "dim": 4, "width": 4}, "batch_size": 32, "epochs": 2}


@pytest.fixture(scope="module")
def data() -> quality_cifar.Data:
    """Images of two colours, which a kind glance can tell apart."""
    labels = np.arange(64) % 2
    rng = np.random.default_rng(0)
    images = (60 + 120 * labels[:, None, None, None] + rng.integers(0, 20, (64, 32, 32, 3))).astype(np.uint8)
    return quality_cifar.Data(images, labels, images[:20], labels[:20])


def test_a_training_in_pieces_ends_as_one_in_one_piece(data: quality_cifar.Data, tmp_path: Path) -> None:
    spec = quality_cifar.specified(data, SIZE, seed=1)
    first, _ = quality_cifar.piece(spec, data, tmp_path / "pieces", most_s=0.0)
    assert not first.finished
    last, model = quality_cifar.piece(spec, data, tmp_path / "pieces", most_s=600.0)
    assert last.finished
    assert last.pieces == 2
    assert last.seconds > first.seconds > 0
    whole, other = quality_cifar.piece(spec, data, tmp_path / "whole", most_s=600.0)
    assert whole.pieces == 1
    for name, value in model.state_dict().items():
        assert (value == other.state_dict()[name]).all(), name
    assert 0 <= data.recognised(model) <= 1
    with pytest.raises(CheckpointError):
        quality_cifar.piece(
            quality_cifar.specified(data, SIZE, seed=2), data, tmp_path / "pieces", most_s=1.0
        )


def test_seeds_are_pooled_and_a_slow_or_wrong_one_misses(tmp_path: Path) -> None:
    path = tmp_path / "results" / "found.json"
    run = {"seed": 0, "seconds": 500.0, "pieces": 1, "finished": True, "epochs": 800, "accuracy": 0.91}
    for other, met in (({}, True), ({"accuracy": 0.89}, False), ({"seconds": 6000.0}, False)):
        quality_cifar.pooled([run, {**run, "seed": 1, **other}], {}, path)
        (found,) = json.loads(path.read_text())["rows"]
        assert found["met"] is met
        assert found["ours"]["n"] == 2
