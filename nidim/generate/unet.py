"""A small U-Net that is told a time and a vector: what flow matching learns the velocity with.

Images are folded 2 × 2 into channels where they are large enough, so that the finest convolutions see a quarter of the
pixels; then residual blocks, halved until eight pixels a side are left, and back up with the maps of the way down.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.spec.unet import unet_shape

FREQUENCIES = 16
GROUPS = 8


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; scale and shift of the second come from a condition (n, k)."""

    def __init__(self, before: int, after: int, *, condition: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(math.gcd(GROUPS, before), before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.norm = nn.GroupNorm(math.gcd(GROUPS, after), after, affine=False)
        self.modulate = nn.Linear(condition, 2 * after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        nn.init.zeros_(self.second.weight)

    def forward(
        self, x: Float[Tensor, "n a h w"], condition: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n b h w"]:
        gain, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        inner = functional.silu(self.norm(self.first(x)) * (1 + gain) + shift)
        return self.shortcut(x) + self.second(inner)


class Stack(nn.Module):
    """``depth`` residual blocks, one after the other."""

    def __init__(self, before: int, after: int, *, depth: int, condition: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Residual(before if number == 0 else after, after, condition=condition) for number in range(depth)
        )

    def forward(
        self, x: Float[Tensor, "n a h w"], condition: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n b h w"]:
        for block in self.blocks:
            x = block(x, condition)
        return x


class UNet(nn.Module):
    """``v(x_t, t, s)``: images (n, c, side, side), times (n,) in [0, 1] and vectors (n, ``dim``) to images."""

    def __init__(self, *, channels: int, side: int, dim: int, width: int, depth: int) -> None:
        super().__init__()
        shape = unet_shape(side, width)
        self.fold, self.multiple, widths = shape.fold, shape.multiple, shape.widths
        known = 4 * width
        self.condition = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + dim, known), nn.SiLU(), nn.Linear(known, known), nn.SiLU()
        )
        pixels = channels * self.fold**2
        self.enter = nn.Conv2d(pixels, width, 3, padding=1)
        down, up = [], []
        before = width
        for w in widths:
            down.append(Stack(before, w, depth=depth, condition=known))
            before = w
        self.middle = Residual(before, before, condition=known)
        for w in reversed(widths):
            up.append(Stack(before + w, w, depth=depth, condition=known))
            before = w
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.leave = nn.Sequential(
            nn.GroupNorm(math.gcd(GROUPS, before), before),
            nn.SiLU(),
            nn.Conv2d(before, pixels, 3, padding=1),
        )

    def forward(
        self, x: Float[Tensor, "n c h w"], t: Float[Tensor, " n"], s: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n c h w"]:
        height, width = x.shape[-2:]
        known = self.condition(torch.cat([_waves(t), s], dim=1))
        padded = functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        h = self.enter(functional.pixel_unshuffle(padded, self.fold))
        maps = []
        for level, stack in enumerate(self.down):
            h = stack(functional.avg_pool2d(h, 2) if level else h, known)
            maps.append(h)
        h = self.middle(h, known)
        for level, stack in enumerate(self.up):
            if level:
                h = functional.interpolate(h, scale_factor=2.0, mode="nearest")
            h = stack(torch.cat([h, maps.pop()], dim=1), known)
        return functional.pixel_shuffle(self.leave(h), self.fold)[..., :height, :width]


def _waves(t: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Sine and cosine of a time at octaves from half a turn."""
    angles = t[:, None] * math.pi * 2.0 ** torch.arange(FREQUENCIES, device=t.device, dtype=t.dtype).div(2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
