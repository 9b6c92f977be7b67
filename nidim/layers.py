"""Layers that critics, heads and networks share."""

from __future__ import annotations

import itertools

from torch import nn

LEAK = 0.01
"""Slope of the leaky ReLUs below zero."""


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths with leaky ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers[:-1])
