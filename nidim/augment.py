"""A view of every image of a batch, drawn anew for each image, as tensor code on the training device.

First a stroke is made thicker or thinner: dilation or erosion by 3 × 3 pixels, by degrees. Geometry (rotation,
scale, shear, shift, random resized crop, flip) is composed into one affine map an image, an elastic displacement
(Simard et al. 2003) is added, and the image is sampled once, bilinearly. Colour (brightness, contrast, saturation, hue)
follows torchvision's definitions, but for hue, which is a rotation about the gray axis of RGB: linear, and the same for
grays. Then grayscale, Gaussian blur, pixel noise. Outside the image is black.

All strengths are in ``nidim.spec.views``; randomness comes from ``generator`` alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nidim.spec.views import Augmentation
from nidim.world import ALONE, World

GRAY = (0.299, 0.587, 0.114)  # ITU-R 601
_ASPECT = math.log(4 / 3)  # crops are between 3:4 and 4:3

Images = Float[Tensor, "n c h w"]


def augment(
    images: Images, augmentation: Augmentation, *, generator: torch.Generator, world: World = ALONE
) -> Images:
    """A random view of each image of a float batch in [0, 1]; pixel noise may leave that range.

    ``world``: of which the images are this rank's rows.
    """
    draw = _Draws(images, generator, world)
    views = images
    if augmentation.morphology > 0:
        views = thicken(views, draw.uniform(-augmentation.morphology, augmentation.morphology))
    if _moves(augmentation):
        views = warp(views, affine_maps(augmentation, draw), _displacement(augmentation, draw, images))
    if augmentation.jitter_p > 0:
        views = jitter(views, augmentation, draw)
    if images.shape[1] == 3 and augmentation.grayscale_p > 0:
        lost = draw.coin(augmentation.grayscale_p)
        views = torch.where(lost, to_gray(views), views)
    if augmentation.blur_p > 0 and augmentation.blur_sigma > 0:
        largest = max(augmentation.blur_sigma, 0.1)
        blurred = blur(views, draw.uniform(0.1, largest), reach=math.ceil(2 * largest))
        views = torch.where(draw.coin(augmentation.blur_p), blurred, views)
    if augmentation.pixel_noise > 0:
        views = views + augmentation.pixel_noise * draw.normal(*views.shape[1:], dtype=views.dtype)
    return views


class _Draws:
    """One random number an image, shaped (n, 1, 1, 1), on the device of the images: those of this rank's rows."""

    def __init__(self, images: Images, generator: torch.Generator, world: World = ALONE) -> None:
        self.n, self.device, self.generator, self.world = len(images), images.device, generator, world

    def uniform(self, low: float, high: float) -> Tensor:
        shape = (self.world.size * self.n, 1, 1, 1)
        unit = self.world.mine(torch.rand(shape, device=self.device, generator=self.generator))
        return low + (high - low) * unit

    def coin(self, probability: float) -> Tensor:
        return self.uniform(0.0, 1.0) < probability

    def normal(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Standard normal numbers, so many an image."""
        every = (self.world.size * self.n, *shape)
        return self.world.mine(torch.randn(every, device=self.device, dtype=dtype, generator=self.generator))


def _moves(a: Augmentation) -> bool:
    return any((a.rotate, a.scale, a.shear, a.shift, a.flip_p, a.crop_min < 1, a.elastic))


def affine_maps(a: Augmentation, draw: _Draws) -> Float[Tensor, "n 2 3"]:
    """Maps from the view's coordinates in [−1, 1]² to the image's: rotation · shear · size, then shift."""
    angle, shear = draw.uniform(-a.rotate, a.rotate), draw.uniform(-a.shear, a.shear)
    size = draw.uniform(1 - a.scale, 1 + a.scale)
    flip = 1 - 2 * draw.coin(a.flip_p).float()
    width, height, left, top = _crops(a, draw)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    a11, a12, a21, a22 = cos, cos * shear - sin, sin, sin * shear + cos
    rows = [
        torch.cat([a11 * width * flip, a12 * height, left + draw.uniform(-a.shift, a.shift)], dim=3),
        torch.cat([a21 * width * flip, a22 * height, top + draw.uniform(-a.shift, a.shift)], dim=3),
    ]
    return torch.cat(rows, dim=2).squeeze(1)


def _crops(a: Augmentation, draw: _Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Relative width and height of a random resized crop and its centre in [−1, 1]; the whole image if off."""
    if a.crop_min >= 1:
        one, zero = draw.uniform(1.0, 1.0), draw.uniform(0.0, 0.0)
        return one, one, zero, zero
    area = draw.uniform(a.crop_min, 1.0)
    fits = (torch.log(1 / area) / _ASPECT).clamp(max=1.0)  # a wider crop of this area would leave the image
    aspect = draw.uniform(-_ASPECT, _ASPECT) * fits
    width = (area.sqrt() * torch.exp(aspect / 2)).clamp(max=1.0)
    height = (area.sqrt() * torch.exp(-aspect / 2)).clamp(max=1.0)
    return width, height, (1 - width) * draw.uniform(-1.0, 1.0), (1 - height) * draw.uniform(-1.0, 1.0)


def _displacement(a: Augmentation, draw: _Draws, images: Images) -> Float[Tensor, "n h w 2"] | None:
    if not a.elastic:
        return None
    return smooth_fields(draw, images.shape[-2:], scale=a.elastic_scale, dtype=images.dtype).mul_(a.elastic)


def smooth_fields(
    draw: _Draws, size: torch.Size, *, scale: float, dtype: torch.dtype
) -> Float[Tensor, "n h w 2"]:
    """Two Gaussian random fields an image over [−1, 1]², of variance 1 everywhere, smooth over ``scale``.

    White noise on knots ``scale`` apart, under Gaussians of that standard deviation: separable, so two matrix
    products. The correlation at distance r is about exp(−r² / 4 scale²), that of white noise convolved with the
    Gaussian (Simard et al. 2003).
    """
    rows, columns = (_bumps(length, scale, draw.device, dtype) for length in size)
    knots = draw.normal(2, rows.shape[1], columns.shape[1], dtype=dtype)
    down = (knots.transpose(2, 3) @ rows.T).transpose(2, 3)  # both products as one of a tall matrix
    return (down @ columns.T).permute(0, 2, 3, 1)


def _bumps(length: int, scale: float, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "length k"]:
    """Gaussians about knots in and around [−1, 1], at the centres of ``length`` pixels; every row of length 1."""
    centres = (2 * torch.arange(length, device=device, dtype=dtype) + 1) / length - 1
    reach = math.ceil(1 / scale) + 2
    knots = scale * torch.arange(-reach, reach + 1, device=device, dtype=dtype)
    return functional.normalize(torch.exp(-0.5 * ((centres[:, None] - knots) / scale) ** 2), dim=1)


def warp(
    images: Images, maps: Float[Tensor, "n 2 3"], displacement: Float[Tensor, "n h w 2"] | None = None
) -> Images:
    """Bilinear sampling of every image under its own affine map, and a displacement beside it; black outside."""
    grid = functional.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    if displacement is not None:
        grid = grid + displacement
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def thicken(images: Images, by: Float[Tensor, "n 1 1 1"]) -> Images:
    """Towards the dilation of a light stroke on black by 3 × 3 pixels, at 1; towards its erosion, at −1."""
    side = 1 - 2 * (by < 0).to(images.dtype)  # the erosion is the dilation of the negative
    dilated = side * _largest_of_nine(side * images)
    return images + by.abs() * (dilated - images)


def _largest_of_nine(images: Images) -> Images:
    """Of every pixel and its neighbours; ten times as fast on a CPU as max pooling, which keeps where they were."""
    within = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    within = torch.maximum(torch.maximum(within[..., :-2, :], within[..., 2:, :]), within[..., 1:-1, :])
    return torch.maximum(torch.maximum(within[..., :-2], within[..., 2:]), within[..., 1:-1])


def to_gray(images: Images) -> Images:
    """ITU-R 601 luma, kept in as many channels; gray images stay as they are."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(GRAY, device=images.device, dtype=images.dtype)[None, :, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def jitter(images: Images, a: Augmentation, draw: _Draws) -> Images:
    """Brightness, contrast, saturation and hue, in this order, each within 1 ± its strength."""
    chosen = draw.coin(a.jitter_p)
    views = images * draw.uniform(1 - a.brightness, 1 + a.brightness)
    mean = to_gray(views).mean(dim=(1, 2, 3), keepdim=True)
    views = mean + (views - mean) * draw.uniform(1 - a.contrast, 1 + a.contrast)
    gray = to_gray(views)
    views = gray + (views - gray) * draw.uniform(1 - a.saturation, 1 + a.saturation)
    if a.hue > 0 and images.shape[1] == 3:
        views = rotate_hue(views, draw.uniform(-a.hue, a.hue))
    return torch.where(chosen, views.clamp(0, 1), images)


def rotate_hue(images: Images, turns: Float[Tensor, "n 1 1 1"]) -> Images:
    """Rotation of RGB about its gray axis by ``turns`` (1 = a full turn)."""
    angle = 2 * math.pi * turns
    mean = images.mean(1, keepdim=True)
    colour = images - mean
    across = (colour.roll(1, dims=1) - colour.roll(-1, dims=1)) / math.sqrt(3)
    return mean + torch.cos(angle) * colour + torch.sin(angle) * across


def blur(images: Images, sigma: Float[Tensor, "n 1 1 1"], *, reach: int) -> Images:
    """Gaussian blur with a standard deviation of its own for every image, pixels; separable.

    ``reach``: half the width of the kernel, pixels; known beforehand, so that the device need not be asked.
    """
    n, c, h, w = images.shape
    radius = min(reach, h - 1, w - 1)
    if radius == 0:
        return images
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.view(n, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, dim=0)
    flat = functional.pad(images.reshape(1, n * c, h, w), (radius,) * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel.view(n * c, 1, 1, -1), groups=n * c)
    flat = functional.conv2d(flat, kernel.view(n * c, 1, -1, 1), groups=n * c)
    return flat.view(n, c, h, w)
