"""Features that images are compared in: of a small classifier trained on the dataset, or the encoder's embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nidim import optimizers
from nidim.encoders import ConvNet, scale
from nidim.feed import Feed, chunks

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

WIDTH = 32
IMAGES_SEEN = {"full": 200_000, "quick": 40_000}
BATCH = 128
LEARNING_RATE = 3e-3
AT_ONCE = 512
HIDDEN = slice(0, 3)
"""The layers after the convolutions that give the features: 128 leaky ReLUs."""


class Features:
    """``of(images)`` -> features (n, k) float64 and, of a classifier, the classes (n,)."""

    def __init__(
        self,
        kind: Literal["classifier", "encoder"],
        of: Callable[[Images], tuple[NDArray[np.float64], Labels | None]],
        *,
        classes: int = 0,
        accuracy: float | None = None,
    ) -> None:
        self.kind, self.of, self.classes, self.accuracy = kind, of, classes, accuracy

    @classmethod
    def of_encoder(cls, embed: Callable[[Images], NDArray[np.float32]]) -> Self:
        """The embeddings themselves: where there are no labels."""
        return cls("encoder", lambda images: (embed(images).astype(np.float64), None))

    @classmethod
    def of_classifier(
        cls,
        images: Images,
        labels: Labels,
        *,
        heldout: Images,
        heldout_labels: Labels,
        level: Literal["full", "quick"],
        seed: int = 0,
    ) -> Self:
        """The hidden layer of a convolutional classifier, trained here on ``images`` (n, h, w, c)."""
        net = _trained(images, labels, seen=IMAGES_SEEN[level], seed=seed)

        def of(given: Images) -> tuple[NDArray[np.float64], Labels]:
            hidden, scores = _read(net, given)
            return hidden, scores.argmax(1)

        accuracy = float((of(heldout)[1] == heldout_labels).mean()) if len(heldout) else None
        return cls("classifier", of, classes=int(labels.max()) + 1, accuracy=accuracy)


def _trained(images: Images, labels: Labels, *, seen: int, seed: int) -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ConvNet(
            channels=images.shape[3], image_size=images.shape[1], width=WIDTH, dim=int(labels.max()) + 1
        )
    batch = min(BATCH, len(images))
    feed = Feed(images, batch_size=batch, seed=seed, device=torch.device("cpu"))
    steps = max(1, seen // batch)
    optimizer = optimizers.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
    net.train()
    for step in range(steps):
        given, rows = feed.batch_and_rows(step)
        loss = functional.cross_entropy(net(given), torch.from_numpy(labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def _read(net: ConvNet, images: Images) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The features and the scores of classes."""
    layers = list(net.output)
    until, last = nn.Sequential(*layers[HIDDEN]), nn.Sequential(*layers[HIDDEN.stop :])
    hidden, scores = [], []
    for chunk in chunks(images, AT_ONCE):
        found = until(net.features(scale(chunk)))
        hidden.append(found.double().numpy())
        scores.append(last(found).numpy())
    return np.concatenate(hidden), np.concatenate(scores)
