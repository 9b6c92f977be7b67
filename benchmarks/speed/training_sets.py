"""The three trainings that are timed, each with its images, its spec and its networks."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nidim.augment import augment
from nidim.build import build_encoder, build_method
from nidim.capacity import Resolved, resolve
from nidim.encoders import EncoderModel, scale
from nidim.hardware import pick_device, to_layout
from nidim.methods.base import Method
from nidim.reproduce.sets import SetName, open_set
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.staged import MACHINE
from nidim.train import Images

DATASETS = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "torchvision"
"""Where the real images are looked for unless the caller knows better."""
LONG = 50
"""Epochs that the specs ask for: enough that precision is worth measuring; none is trained to its end."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One network with the images it is trained on; ``batch`` on a CPU and on a GPU, ``steps`` to time."""

    title: str
    dataset: str
    side: int
    channels: int
    batch: dict[str, int]
    steps: dict[str, int]
    keep: int
    """Images that are used; more would not change a step."""

    @property
    def batch_size(self) -> int:
        return self.batch[pick_device()]

    @property
    def timed_steps(self) -> int:
        return self.steps[pick_device()]


CASES = (
    Case(
        title="conv net, MNIST 28×28",
        dataset="mnist",
        side=28,
        channels=1,
        batch={"cpu": 512, "cuda": 512},
        steps={"cpu": 12, "cuda": 300},
        keep=20_000,
    ),
    Case(
        title="ResNet-18, CIFAR-10 32×32",
        dataset="cifar10-jpeg",
        side=32,
        channels=3,
        batch={"cpu": 128, "cuda": 512},
        steps={"cpu": 3, "cuda": 100},
        keep=50_000,
    ),
    Case(
        title="ResNet-18, Tiny ImageNet 64×64",
        dataset="tiny-imagenet-100",
        side=64,
        channels=3,
        batch={"cpu": 64, "cuda": 512},
        steps={"cpu": 2, "cuda": 40},
        keep=24_000,
    ),
)


def small(case: Case) -> Case:
    """A trial of the script itself."""
    tiny = {"cpu": case.batch["cpu"] // 8, "cuda": case.batch["cuda"]}
    return dataclasses.replace(case, batch=tiny, steps={"cpu": 2, "cuda": 5}, keep=2_000)


def load_images(case: Case, datasets_dir: Path | None) -> tuple[Images, str]:
    """``case.keep`` images and where they are from; random ones where the files are not there."""
    root = datasets_dir or DATASETS
    if root.is_dir():
        found = open_set(SetName(case.dataset, case.side), root=root, allow_downloads=False).train.images
        rows = np.sort(np.random.default_rng(0).permutation(len(found))[: case.keep])
        return np.asarray(found[rows]), case.dataset
    shape = (case.keep, case.side, case.side, case.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "random"


class Training:
    """The spec of one case with one method, and what "auto" became on this machine."""

    def __init__(self, case: Case, images: Images, method: str, seed: int, **more: Any) -> None:
        self.case, self.images, self.seed = case, images, seed
        facts = DatasetFacts(
            name=case.dataset,
            n_train=len(images),
            n_test=0,
            height=case.side,
            width=case.side,
            channels=1 if case.channels == 1 else 3,
        )
        values = {"dataset": case.dataset, "method": {"kind": method}, "epochs": LONG, "seed": seed}
        asked = TrainSpec.model_validate({**values, "batch_size": case.batch_size, **more})
        self.spec: FullSpec = asked.filled(facts)
        self.resolved: Resolved = resolve(self.spec, facts)[0]

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.resolved.channels_last else torch.contiguous_format

    @cached_property
    def encoder(self) -> EncoderModel:
        """The network of the training, on its device, in its precision and layout."""
        model = build_encoder(self.spec, self.resolved).to(self.resolved.device or "cpu")
        to_layout(model, self.layout).train()
        model.precision = self.resolved.dtype
        return model

    @cached_property
    def method(self) -> Method:
        """What is trained beside the encoder: head and critic."""
        return build_method(self.spec, self.resolved).to(self.resolved.device or "cpu").train()

    def on_machine_of(self, other: Training) -> None:
        """Device, precision, layout and threads as another training has measured them."""
        found = {name: getattr(other.resolved, name) for name in MACHINE}
        self.resolved = self.resolved.model_copy(update=found)

    def random_images(self) -> tuple[Tensor, Tensor]:
        """Two batches that are on the device already."""
        case, generator = self.case, torch.Generator().manual_seed(self.seed)
        shape = (2, self.resolved.batch_size, case.channels, case.side, case.side)
        first, second = torch.rand(shape, generator=generator)
        return self._placed(first), self._placed(second)

    def views(self) -> tuple[Tensor, Tensor]:
        """A batch of the images and one view of each, on the device already."""
        images = scale(torch.from_numpy(self.images[: self.resolved.batch_size]))
        view = augment(images, self.spec.augmentation, generator=torch.Generator().manual_seed(self.seed))
        return self._placed(images), self._placed(view)

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self.resolved.device or "cpu").contiguous(memory_format=self.layout)

    def chosen(self) -> dict[str, Any]:
        """What was chosen at the start."""
        found = self.resolved
        return {
            "device": found.device,
            "precision": found.dtype,
            "channels_last": found.channels_last,
            "d": found.dim,
        }
