"""The memory that a training is said to take, against what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nidim import footprint
from nidim.capacity import resolve
from nidim.spec import DatasetFacts, TrainSpec
from nidim.spec.generator import (
    FullGeneratorSpec,
    GeneratorSpec,
    ResolvedGenerator,
    SourceFacts,
    resolve_generator,
)

FACTOR = 1.6
SPECS: dict[str, dict[str, Any]] = {
    "conv": {"image_size": 28, "batch_size": 256, "encoder": {"kind": "conv", "width": 32}},
    "wide conv": {"image_size": 32, "batch_size": 64, "encoder": {"kind": "conv", "width": 256}},
    "concat critic": {
        "image_size": 8,
        "batch_size": 224,
        "encoder": {"kind": "conv", "width": 4},
        "critic": {"kind": "concat", "hidden": 256},
    },
    "all pairs": {
        "image_size": 8,
        "batch_size": 8192,
        "encoder": {"kind": "conv", "width": 4},
        "objective": {"kind": "nwj"},
    },
    "blocks of pairs": {"image_size": 8, "batch_size": 6144, "encoder": {"kind": "conv", "width": 4}},
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
        "batch_size": 128,
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


TRIED = ("conv", "concat critic", "blocks of pairs", "local maps")
"""What the suite trains; to try another, name it here."""
GENERATORS: dict[str, dict[str, Any]] = {
    "flow matching": {"model": {"kind": "flow_matching", "width": 64}, "batch_size": 256, "image_size": 8},
    "gan": {"model": {"kind": "gan"}, "batch_size": 128, "image_size": 28},
}


def resolved_generator(
    changes: dict[str, Any],
) -> tuple[FullGeneratorSpec, ResolvedGenerator]:
    n, size = changes["batch_size"], changes["image_size"]
    facts = DatasetFacts(name="noise", n_train=2 * n, n_test=64, height=size, width=size, channels=1)
    source = SourceFacts(dataset="noise", dim=16, image_size=size, channels=1)
    given = {
        "kind": "generator",
        "source": "e",
        "precision": "float32",
        "epochs": 1,
        "model": changes["model"],
    }
    spec = GeneratorSpec.model_validate({**given, "batch_size": n}).filled(source, facts)
    return spec, resolve_generator(spec, source, facts)


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

    torch.set_num_threads(1)
    spec, resolved = resolved_spec(changes)
    size = resolved.image_size
    dice = np.random.default_rng(0)
    images = dice.integers(0, 256, (resolved.n_train, size, size, 3), dtype=np.uint8)
    peak = Peak()
    fitted = fit(spec, resolved, images, heldout=images[:64])
    embed(fitted.model, images)
    sys.stdout.write(json.dumps(peak.risen()))


def main_generator(changes: dict[str, Any]) -> None:
    """The same of a generator."""
    import torch

    from nidim.generate.train import fit_generator

    torch.set_num_threads(1)
    spec, resolved = resolved_generator(changes)
    dice, size = np.random.default_rng(0), resolved.image_size
    images = dice.integers(0, 256, (resolved.n_train, size, size, 1), dtype=np.uint8)
    scores = dice.standard_normal((resolved.n_train, resolved.dim)).astype(np.float32)
    peak = Peak()
    fit_generator(spec, resolved, images, scores)
    sys.stdout.write(json.dumps(peak.risen()))


class Peak:
    """The most memory of its own that this process has while a thread looks every few milliseconds.

    Without mapped files: a fork touches those of its libraries anew, more or less of them by the build of torch.
    """

    def __init__(self) -> None:
        self.before = self.most = own_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(0.003):
            self.most = max(self.most, own_bytes())

    def risen(self) -> int:
        self._done.set()
        self._thread.join()
        return self.most - self.before


def own_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def forked(changes: dict[str, Any]) -> int:
    """The peak of one training, in a fork of a process that has imported all and computed nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        try:
            (main_generator if "model" in changes else main)(changes)
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    return int(found)


def kept_and_widest(encoder: dict[str, Any], size: int, *, n: int = 2) -> tuple[float, float]:
    """Values that autograd keeps for an image, weights aside, and those of the largest layer and its input."""
    import torch

    from nidim.encoders import build_network

    spec = TrainSpec.model_validate({"dataset": "x", "encoder": encoder, "image_size": size})
    network = build_network(spec.encoder, channels=3, image_size=size).train()
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}
    widest = 0

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return value

    def look(module: torch.nn.Module, given: tuple[Any, ...], result: Any) -> None:
        nonlocal widest
        if not list(module.children()) and isinstance(result, torch.Tensor):
            widest = max(widest, result.numel() + given[0].numel())

    for module in network.modules():
        module.register_forward_hook(look)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        network(torch.rand(n, 3, size, size))
    return sum(storage.nbytes() for storage in kept.values()) / footprint.FLOAT / n, widest / n


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("kind", ["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"])
def test_what_was_counted_of_a_network_is_counted_again(kind: str, stem: str) -> None:
    size, cell = (16, 1) if stem == "cifar" else (64, 4)
    kept, widest = kept_and_widest({"kind": kind, "stem": stem}, size)
    counted, cells = footprint.COUNTED[kind], (size // cell) ** 2
    assert kept / cells == pytest.approx(counted.kept[stem], rel=0.15)
    assert widest / cells == pytest.approx(counted.widest[stem], rel=0.05)


def test_what_was_counted_of_a_vision_transformer_is_counted_again() -> None:
    kept, widest = kept_and_widest({"kind": "vit_small", "patch": 4}, 32)
    assert kept / 64 == pytest.approx(footprint.COUNTED["vit_small"].kept["patch"], rel=0.05)
    assert widest / 64 == pytest.approx(footprint.COUNTED["vit_small"].widest["patch"], rel=0.05)


@pytest.mark.parametrize("kind", [*footprint.COUNTED, "resnet34"])
def test_weights_are_as_many_as_is_said(kind: str) -> None:
    from nidim.encoders import build_network

    spec, _ = resolved_spec({"image_size": 32, "batch_size": 2, "encoder": {"kind": kind}})
    network = build_network(spec.encoder, channels=3, image_size=32)
    found = sum(weight.numel() for weight in network.parameters())
    said = footprint.training(*resolved_spec({"image_size": 32, "batch_size": 2, "encoder": {"kind": kind}}))
    assert said.encoder / footprint.FLOAT / footprint.COPIES["adamw"] == pytest.approx(found, rel=0.02)


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    """The peaks of ``TRIED`` and ``GENERATORS``, bytes."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", TRIED)
def test_the_peak_is_about_what_is_said(name: str, measured: dict[str, int]) -> None:
    assert measured[name] == pytest.approx(said(SPECS[name]).total, rel=FACTOR - 1)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_peak_of_a_generator_is_about_what_is_said(name: str, measured: dict[str, int]) -> None:
    said = footprint.generator(*resolved_generator(GENERATORS[name])).total
    assert measured[name] == pytest.approx(said, rel=FACTOR - 1)


if __name__ == "__main__":
    import nidim.embedding
    import nidim.generate.train
    import nidim.train  # noqa: F401 - so that the forks need not

    wanted = {name: SPECS[name] for name in TRIED} | GENERATORS
    sys.stdout.write(json.dumps({name: forked(changes) for name, changes in wanted.items()}))
