"""Every strength of an augmentation does what its description says, against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from nidim._torchvision import import_torchvision
from nidim.augment import (
    GRAY,
    _crops,
    _Draws,
    affine_maps,
    augment,
    blur,
    jitter,
    smooth_fields,
    thicken,
    to_gray,
    warp,
)
from nidim.pipeline import some_views
from nidim.spec.views import NoiseAugmentation

MANY = 4000


def only(**strengths: float) -> NoiseAugmentation:
    """An augmentation with these strengths and nothing else."""
    return NoiseAugmentation(pixel_noise=0, **strengths)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, channels: int = 1, side: int = 9, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return low + (high - low) * torch.rand((n, channels, side, side), generator=generator(7))


def draws(n: int = MANY, seed: int = 0) -> _Draws:
    return _Draws(torch.empty(n, 1, 1, 1), generator(seed))


class Fixed(_Draws):
    """Every number of a range at the same place of it: 0 is its low end, 1 its high end."""

    def __init__(self, n: int, place: float) -> None:
        super().__init__(torch.empty(n, 1, 1, 1), generator())
        self.place = place

    def uniform(self, low: float, high: float) -> torch.Tensor:
        return torch.full((self.n, 1, 1, 1), low + (high - low) * self.place)


def moved(images: torch.Tensor, place: float, **strengths: float) -> torch.Tensor:
    """The geometry alone, at one end of its range."""
    return warp(images, affine_maps(only(**strengths), Fixed(len(images), place)))


def parameters(maps: torch.Tensor) -> dict[str, np.ndarray]:
    """Angle, size, shear and shift of maps that are rotation · shear · size and a shift, by a QR decomposition."""
    linear = maps[:, :, :2].double().numpy()
    q, r = np.linalg.qr(linear)
    signs = np.sign(np.einsum("nii->ni", r))
    q, r = q * signs[:, None, :], r * signs[:, :, None]
    return {
        "angle": np.arctan2(q[:, 1, 0], q[:, 0, 0]),
        "size": r[:, 0, 0],
        "height over width": r[:, 1, 1] / r[:, 0, 0],
        "shear": r[:, 0, 1] / r[:, 0, 0],
        "left": maps[:, 0, 2].double().numpy(),
        "top": maps[:, 1, 2].double().numpy(),
    }


STRENGTHS = {"rotate": 0.35, "scale": 0.2, "shear": 0.3, "shift": 0.15}
RANGES = {
    "rotate": {"angle": (-0.35, 0.35)},
    "scale": {"size": (0.8, 1.2)},
    "shear": {"shear": (-0.3, 0.3)},
    "shift": {"left": (-0.15, 0.15), "top": (-0.15, 0.15)},
}
STILL = {"angle": 0.0, "size": 1.0, "height over width": 1.0, "shear": 0.0, "left": 0.0, "top": 0.0}


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_strength_is_the_half_width_of_a_uniform_law_and_moves_nothing_else(name: str) -> None:
    found = parameters(affine_maps(only(**{name: STRENGTHS[name]}), draws()))
    for parameter, still in STILL.items():
        if parameter not in RANGES[name]:
            np.testing.assert_allclose(found[parameter], still, atol=1e-6, err_msg=parameter)
            continue
        low, high = RANGES[name][parameter]
        assert stats.kstest((found[parameter] - low) / (high - low), "uniform").pvalue > 0.001, parameter


def test_all_strengths_at_once_are_drawn_independently() -> None:
    found = parameters(affine_maps(only(**STRENGTHS), draws()))
    varying = [found[name] for ranges in RANGES.values() for name in ranges]
    correlations = np.corrcoef(varying) - np.eye(len(varying))
    assert np.abs(correlations).max() < 5 / math.sqrt(MANY)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("place", [0.0, 1.0])
def test_the_largest_rotation_of_a_quarter_turns_by_a_quarter(side: int, place: float) -> None:
    images = pictures(2, side=side)
    turns = 1 if place else -1
    found = moved(images, place, rotate=math.pi / 2)
    torch.testing.assert_close(found, torch.rot90(images, turns, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_a_shift_is_counted_in_halves_of_the_image_and_black_comes_in(place: float) -> None:
    images = pictures(2, side=8)
    by = 2 if place else -2  # half a half of eight pixels
    expected = ndimage.shift(images.numpy(), (0, 0, -by, -by), order=1, mode="constant")
    np.testing.assert_allclose(moved(images, place, shift=0.5).numpy(), expected, atol=1e-5)


def test_the_largest_shift_leaves_half_of_the_image() -> None:
    found = moved(torch.ones(1, 1, 8, 8), 1.0, shift=1.0)
    assert float(found.sum()) == pytest.approx(16)


@pytest.mark.parametrize(("place", "size"), [(0.0, 0.5), (1.0, 1.5)])
def test_scale_is_the_relative_change_of_size(place: float, size: float) -> None:
    """SciPy samples at size · (pixel − centre) + centre, the same map in pixels."""
    images = pictures(1, side=9)
    expected = ndimage.affine_transform(
        images[0, 0].numpy(), np.eye(2) * size, offset=4 - 4 * size, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(moved(images, place, scale=0.5)[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("place", "shear"), [(0.0, -0.5), (1.0, 0.5)])
def test_shear_is_the_tangent(place: float, shear: float) -> None:
    images = pictures(1, side=9)
    matrix = np.array([[1.0, 0.0], [shear, 1.0]])  # rows first: a column moves by shear for each row
    expected = ndimage.affine_transform(
        images[0, 0].numpy(), matrix, offset=4 - matrix @ [4, 4], order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(moved(images, place, shear=0.5)[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("smallest", [0.08, 0.2, 0.5, 0.7, 0.9, 0.99])
def test_a_crop_is_inside_the_image_no_smaller_than_said_and_hardly_distorted(smallest: float) -> None:
    width, height, left, top = (v.flatten().double() for v in _crops(only(crop_min=smallest), draws()))
    assert float((left.abs() + width).max()) <= 1 + 1e-6
    assert float((top.abs() + height).max()) <= 1 + 1e-6
    ratio = width / height
    assert float(ratio.min()) >= 3 / 4 - 1e-6
    assert float(ratio.max()) <= 4 / 3 + 1e-6
    assert float((width * height).min()) >= smallest - 1e-6


def test_crops_reach_every_size_shape_and_corner() -> None:
    width, height, left, top = (v.flatten() for v in _crops(only(crop_min=0.2), draws()))
    area, ratio = width * height, width / height
    assert float(area.min()) < 0.22
    assert float(area.max()) > 0.95
    assert (float(ratio.min()), float(ratio.max())) == pytest.approx((3 / 4, 4 / 3), abs=0.02)
    for start, side in ((left, width), (top, height)):
        places = (start / (1 - side))[side < 0.999]
        assert stats.kstest((places.numpy() + 1) / 2, "uniform").pvalue > 0.001


@pytest.mark.parametrize("flipped", [False, True])
def test_a_crop_shows_its_part_of_the_image_at_full_size(flipped: bool) -> None:
    """The top left quarter of a picture made of four flat quarters is flat."""
    quarters = torch.tensor([[0.1, 0.4], [0.6, 0.9]]).repeat_interleave(8, 0).repeat_interleave(8, 1)

    class TopLeft(Fixed):
        """The smallest square crop, as far to the top and left as it goes."""

        def uniform(self, low: float, high: float) -> torch.Tensor:
            middle = low == -high and high != 1.0  # all but the place, which is drawn from [−1, 1]
            return super().uniform(*((0.0, 0.0) if middle else (low, high)))

        def coin(self, probability: float) -> torch.Tensor:
            return torch.full((self.n, 1, 1, 1), flipped)

    maps = affine_maps(only(crop_min=0.25), TopLeft(1, 0.0))
    inner = warp(quarters[None, None], maps)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_flip_comes_as_often_as_said(probability: float) -> None:
    images = pictures(1).expand(MANY, -1, -1, -1)
    views = augment(images, only(flip_p=probability), generator=generator())
    is_flipped = share_equal_to(views, images.flip(3))
    assert is_flipped == pytest.approx(probability, abs=5 * math.sqrt(probability * (1 - probability) / MANY))
    assert share_equal_to(views, images) == pytest.approx(1 - is_flipped)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_colours_are_lost_as_often_as_said(probability: float) -> None:
    images = pictures(1, channels=3).expand(MANY, -1, -1, -1)
    views = augment(images, only(grayscale_p=probability), generator=generator())
    gray = share_equal_to(views, to_gray(images))
    assert gray == pytest.approx(probability, abs=5 * math.sqrt(probability * (1 - probability) / MANY))
    assert share_equal_to(views, images) == pytest.approx(1 - gray)


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_jitter_comes_as_often_as_said(probability: float) -> None:
    images = pictures(1, channels=3).expand(MANY, -1, -1, -1)
    views = augment(images, only(jitter_p=probability, brightness=0.5), generator=generator())
    untouched = share_equal_to(views, images)
    assert untouched == pytest.approx(
        1 - probability, abs=5 * math.sqrt(probability * (1 - probability) / MANY) + 0.001
    )


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_blur_comes_as_often_as_said_and_uniformly_strong(probability: float) -> None:
    """σ is read off a blurred dot: its neighbour is e^{−1/2σ²} as bright as itself."""
    dot = torch.zeros(1, 1, 17, 17)
    dot[..., 8, 8] = 1
    views = augment(
        dot.expand(MANY, -1, -1, -1), only(blur_p=probability, blur_sigma=2.0), generator=generator()
    ).double()
    ratio = (views[..., 8, 9] / views[..., 8, 8]).flatten().numpy()
    blurred = ratio > 0
    assert blurred.mean() == pytest.approx(
        probability, abs=5 * math.sqrt(probability * (1 - probability) / MANY)
    )
    if blurred.any():
        sigma = np.sqrt(-0.5 / np.log(ratio[blurred]))
        assert stats.kstest((sigma - 0.1) / 1.9, "uniform").pvalue > 0.001


def share_equal_to(views: torch.Tensor, images: torch.Tensor) -> float:
    """The share of views that are their image."""
    return float(((views - images).abs().flatten(1).amax(1) < 1e-5).float().mean())


COLOURS = ("brightness", "contrast", "saturation")


def torchvisions(name: str, images: torch.Tensor, factor: float) -> torch.Tensor:
    """The adjustment ``name`` of torchvision."""
    import_torchvision()
    from torchvision.transforms.v2 import functional

    return getattr(functional, f"adjust_{name}")(images, factor)


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("place", [0.0, 1.0])
def test_colour_at_the_ends_of_its_range_is_torchvisions(name: str, strength: float, place: float) -> None:
    """The factors 1 − strength and 1 + strength; bright parts are cut off at white."""
    images = pictures(3, channels=3)
    found = jitter(images, only(**{name: strength}, jitter_p=1), Always(3, place))
    factor = 1 + strength if place else 1 - strength
    torch.testing.assert_close(found, torchvisions(name, images, factor), atol=1e-3, rtol=0)


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_gray_images_have_brightness_and_contrast_but_no_colours(place: float) -> None:
    images = pictures(3, low=0.3, high=0.5)
    for name in ("brightness", "contrast"):
        found = jitter(images, only(**{name: 0.4}, jitter_p=1), Always(3, place))
        expected = torchvisions(name, images, 1.4 if place else 0.6)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    colours = only(saturation=0.4, hue=0.3, grayscale_p=1, jitter_p=1)
    torch.testing.assert_close(augment(images, colours, generator=generator()), images)


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_colours_change_in_the_order_brightness_contrast_saturation(place: float) -> None:
    """On pictures so dull that nothing is cut off on the way."""
    images = pictures(3, channels=3, low=0.3, high=0.5)
    strengths = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5}
    found = jitter(images, only(**strengths, jitter_p=1), Always(3, place))
    expected = images
    for name, strength in strengths.items():
        expected = torchvisions(name, expected, 1 + strength if place else 1 - strength)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_hue_turns_by_its_strength_at_most() -> None:
    """A third of a turn takes red to green, the other way to blue."""
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    ends = [jitter(red, only(hue=1 / 3, jitter_p=1), Always(1, place)).flatten() for place in (0.0, 1.0)]
    torch.testing.assert_close(torch.stack(ends), torch.tensor([[0, 0, 1.0], [0, 1.0, 0]]), atol=1e-6, rtol=0)


class Always(Fixed):
    """As Fixed, and every coin falls on yes."""

    def coin(self, probability: float) -> torch.Tensor:
        return torch.ones((self.n, 1, 1, 1), dtype=torch.bool)


@pytest.mark.parametrize("name", COLOURS)
def test_colour_factors_are_uniform_around_one(name: str) -> None:
    """Recovered from two pixels of each view: every adjustment is linear where nothing is cut off."""
    image = torch.tensor([[0.3, 0.5], [0.35, 0.42], [0.45, 0.4]]).view(1, 3, 1, 2)
    views = augment(
        image.expand(MANY, -1, -1, -1), only(**{name: 0.4}, jitter_p=1), generator=generator()
    ).double()
    factor = spread(views, name) / spread(image.double(), name)
    assert stats.kstest((factor.numpy() - 0.6) / 0.8, "uniform").pvalue > 0.001


def spread(images: torch.Tensor, name: str) -> torch.Tensor:
    """What the factor of an adjustment multiplies: the level, the distance of two pixels, that of two colours."""
    if name == "brightness":
        return images.mean((1, 2, 3))
    if name == "contrast":
        return images[:, 0, 0, 1] - images[:, 0, 0, 0]
    return images[:, 0, 0, 0] - images[:, 2, 0, 0]


def test_gray_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    found = to_gray(torch.from_numpy(colours).permute(2, 0, 1)[None] / 255)
    expected = np.asarray(Image.fromarray(colours).convert("L")) / 255
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=0.51 / 255)
    assert sum(GRAY) == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_scipys_gaussian_filter(sigma: float) -> None:
    images = pictures(2, channels=3, side=12)
    found = blur(images, torch.full((2, 1, 1, 1), sigma), reach=4)
    expected = ndimage.gaussian_filter(images.numpy(), sigma, axes=(2, 3), mode="mirror", radius=4)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_noise_is_normal_and_of_its_strength(strength: float, channels: int) -> None:
    images = pictures(60, channels)
    added = augment(images, NoiseAugmentation(pixel_noise=strength), generator=generator()) - images
    assert stats.kstest((added / strength).flatten().numpy(), "norm").pvalue > 0.001


def fields(size: tuple[int, int], scale: float, n: int = MANY) -> np.ndarray:
    found = smooth_fields(draws(n), torch.Size(size), scale=scale, dtype=torch.float32)
    assert found.shape == (n, *size, 2)
    return found.double().numpy()


@pytest.mark.parametrize("scale", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("size", [(7, 12), (1, 3)])
def test_a_smooth_field_is_of_variance_1_at_every_pixel(size: tuple[int, int], scale: float) -> None:
    found = fields(size, scale)
    np.testing.assert_allclose(found.mean(0), 0, atol=5 / math.sqrt(MANY))
    np.testing.assert_allclose(found.var(0), 1, atol=5 * math.sqrt(2 / MANY))
    assert abs(np.corrcoef(found[:, 0, 0, 0], found[:, 0, 0, 1])[0, 1]) < 5 / math.sqrt(MANY)
    assert stats.kstest(found[:, -1, -1, 0], "norm").pvalue > 0.001


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7])
def test_a_smooth_field_is_white_noise_convolved_with_a_gaussian(scale: float) -> None:
    """Its correlation falls as that of SciPy's filtered noise does, exp(−r² / 4 scale²)."""
    side = 21
    found = fields((side, side), scale)[..., 0]
    distances = 2 * np.arange(side) / side
    for lag in range(0, side, 4):
        for pair in (found[:, 3, lag], found[:, lag, 3]):  # along and across
            expected = math.exp(-((distances[lag] - distances[3]) ** 2) / (4 * scale**2))
            assert np.corrcoef(found[:, 3, 3], pair)[0, 1] == pytest.approx(expected, abs=5 / math.sqrt(MANY))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("elastic", "scale"), [(0.05, 0.3), (0.1, 1.0)])
def test_an_elastic_displacement_is_of_its_strength_in_halves_of_the_image(
    elastic: float, scale: float, across: bool
) -> None:
    """A ramp says where each pixel came from."""
    side = 16
    ramp = (2 * torch.arange(side) + 1) / side - 1
    images = (ramp[:, None] if across else ramp).expand(MANY, 1, side, side)
    by = (augment(images, only(elastic=elastic, elastic_scale=scale), generator=generator()) - images)[:, 0]
    inside = by[:, 6:10, 6:10].double().numpy()
    assert inside.std() == pytest.approx(elastic, rel=0.03)
    assert inside.mean() == pytest.approx(0, abs=5 * elastic / math.sqrt(MANY))
    assert by[0].std() > 0  # not a shift


def test_an_elastic_displacement_comes_beside_the_affine_map() -> None:
    """Half a turn and the displacement: the same as the turned image displaced."""
    images = pictures(3, side=12)
    shown = only(elastic=0.1, rotate=math.pi)
    displacement = 0.1 * smooth_fields(draws(3), torch.Size((12, 12)), scale=0.3, dtype=torch.float32)
    maps = affine_maps(shown, Fixed(3, 1.0))
    still = torch.eye(2, 3).expand(3, 2, 3)
    turned = torch.rot90(images, 2, (2, 3))
    torch.testing.assert_close(
        warp(images, maps, displacement), warp(turned, still, -displacement), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_thicken_is_scipys_gray_dilation_and_erosion(channels: int) -> None:
    images = pictures(2, channels, side=11)
    window = (1, 1, 3, 3)
    for by, reference in ((1.0, ndimage.grey_dilation), (-1.0, ndimage.grey_erosion)):
        whole = reference(images.numpy(), size=window, mode="nearest")
        np.testing.assert_allclose(thicken(images, torch.full((2, 1, 1, 1), by)).numpy(), whole, atol=1e-6)
        half = thicken(images, torch.full((2, 1, 1, 1), by / 2)).numpy()
        np.testing.assert_allclose(half, (images.numpy() + whole) / 2, atol=1e-6)


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_morphology_is_the_half_width_of_a_uniform_law(strength: float) -> None:
    """Of a bright and a dark dot one grows: the degree is how bright, or dark, their neighbours become."""
    images = torch.full((MANY, 1, 5, 9), 0.5)
    images[..., 2, 2], images[..., 2, 6] = 1, 0
    views = augment(images, only(morphology=strength), generator=generator())
    degree = (2 * (views[:, 0, 1, 1] + views[:, 0, 1, 5] - 1)).double().numpy()
    assert stats.kstest((degree + strength) / (2 * strength), "uniform").pvalue > 0.001


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_shows_an_image_and_views_of_it(channels: int) -> None:
    images = (255 * pictures(9, channels, side=12)).permute(0, 2, 3, 1).to(torch.uint8).numpy()
    shown = some_views(images, only(), seed=3)
    assert [found.shape for found in shown] == [(6, 12, 12, channels)] * 6
    for found in shown:
        assert any((found == image).all() for image in images), "without a strength a view is the image"
    moved = some_views(images, only(rotate=0.5), seed=3)
    for found, still in zip(moved, shown, strict=True):
        np.testing.assert_array_equal(found[0], still[0])
        assert len({view.tobytes() for view in found}) == len(found)
    np.testing.assert_array_equal(np.stack(moved), np.stack(some_views(images, only(rotate=0.5), seed=3)))
    assert len(some_views(images[:2], only(), seed=0)) == 2
