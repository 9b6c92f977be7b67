"""Layers that critics, heads and networks share."""

from __future__ import annotations

import itertools

from torch import nn

LEAK = 0.01
"""Slope of the leaky ReLUs below zero."""


def mlp(*widths: int, batchnorm: bool = False) -> nn.Sequential:
    """Linear layers of the given widths with leaky ReLU between them; ``batchnorm``: before each of these."""
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(before, after))
        if number < last:
            layers += [nn.BatchNorm1d(after)] * batchnorm + [nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers)
