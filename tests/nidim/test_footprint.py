"""The memory that a training is said to take, against what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nidim import footprint
from nidim.capacity import resolve
from nidim.spec import DatasetFacts, TrainSpec

FACTOR = 1.6
SPECS: dict[str, dict[str, Any]] = {
    "conv": {"image_size": 28, "batch_size": 512, "encoder": {"kind": "conv", "width": 32}},
    "wide conv": {"image_size": 32, "batch_size": 64, "encoder": {"kind": "conv", "width": 256}},
    "concat critic": {
        "image_size": 8,
        "batch_size": 320,
        "encoder": {"kind": "conv", "width": 4},
        "critic": {"kind": "concat", "hidden": 256},
    },
    "all pairs": {"image_size": 8, "batch_size": 8192, "encoder": {"kind": "conv", "width": 4}},
    "slices": {
        "image_size": 8,
        "batch_size": 1024,
        "encoder": {"kind": "conv", "width": 4},
        "regularizer": {"kind": "sliced_epps_pulley", "slices": 1024},
    },
    "resnet18": {"image_size": 32, "batch_size": 128, "encoder": {"kind": "resnet18"}},
    "resnet50": {"image_size": 32, "batch_size": 64, "encoder": {"kind": "resnet50"}},
    "large images": {"image_size": 224, "batch_size": 32, "encoder": {"kind": "resnet18"}},
    "local maps": {
        "image_size": 28,
        "batch_size": 512,
        "encoder": {"kind": "conv", "width": 32},
        "method": {"kind": "infomax", "local": 1},
    },
    "noise between blocks": {
        "image_size": 28,
        "batch_size": 512,
        "encoder": {"kind": "conv", "width": 32},
        "noise": {"kind": "gaussian", "layers": 0.1},
    },
    "simclr": {
        "image_size": 8,
        "batch_size": 4096,
        "encoder": {"kind": "conv", "width": 4},
        "method": {"kind": "simclr"},
    },
}


def resolved_spec(changes: dict[str, Any]):
    n = changes["batch_size"]
    facts = DatasetFacts(
        name="noise", n_train=2 * n, n_test=64, height=changes["image_size"], width=changes["image_size"],
        channels=3,
    )  # fmt: skip
    given = {"dataset": "noise", "precision": "float32", "epochs": 1, **changes}
    spec = TrainSpec.model_validate(given).filled(facts)
    return spec, resolve(spec, facts)[0]


def said(changes: dict[str, Any]) -> footprint.Footprint:
    return footprint.training(*resolved_spec(changes))


def main(changes: dict[str, Any]) -> None:
    """In a process of its own: train two steps and embed, then print by how much the peak rose."""
    import torch

    from nidim.embedding import embed
    from nidim.train import fit

    torch.set_num_threads(2)
    spec, resolved = resolved_spec(changes)
    size = resolved.image_size
    dice = np.random.default_rng(0)
    images = dice.integers(0, 256, (resolved.n_train, size, size, 3), dtype=np.uint8)
    before = peak_bytes()
    fitted = fit(spec, resolved, images, heldout=images[:64])
    embed(fitted.model, images)
    sys.stdout.write(json.dumps(peak_bytes() - before))


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def measured(changes: dict[str, Any]) -> int:
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(changes)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("name", ["conv", "concat critic", "local maps"])
def test_the_peak_is_about_what_is_said(name):
    assert measured(SPECS[name]) == pytest.approx(said(SPECS[name]).total, rel=FACTOR - 1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
