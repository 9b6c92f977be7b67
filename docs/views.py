"""``python docs/views.py DIR``: images/views.png, images of MNIST (in torchvision's root DIR) and views of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nidim.augment import augment
from nidim.data import load_builtin
from nidim.spec.views import DigitsAugmentation, HandwritingAugmentation, NoiseAugmentation

TARGET = Path(__file__).resolve().parent / "images" / "views.png"
CHOSEN = (0, 1, 2, 3, 4, 5, 7, 13)
"""Training images."""
ALONE = {"rotate": 0, "scale": 0, "shear": 0, "shift": 0, "pixel_noise": 0}
KINDS = {
    "digits": DigitsAugmentation(),
    "elastic = .06\nalone": DigitsAugmentation(elastic=0.06, **ALONE),
    "morphology = .5\nalone": DigitsAugmentation(morphology=0.5, **ALONE),
    "handwriting": HandwritingAugmentation(),
    "pixel_noise": NoiseAugmentation(),
}


def draw(root: Path, target: Path) -> None:
    """The figure, from torchvision's root into a PNG file."""
    stored = load_builtin("mnist", root=root).train.images[list(CHOSEN)]
    images = torch.from_numpy(stored.astype(np.float32) / 255).permute(0, 3, 1, 2)
    rows: dict[str, Tensor] = {"image": images}
    for name, kind in KINDS.items():
        rows[name] = augment(images, kind, generator=torch.Generator().manual_seed(0))
    figure = Figure(figsize=(1.1 * len(CHOSEN) + 1.2, 1.1 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(CHOSEN))
    for line, (name, views) in zip(panels, rows.items(), strict=True):
        for axes, view in zip(line, views, strict=True):
            axes.imshow(view[0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.savefig(target, dpi=80)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), TARGET)
