"""RankMe, LiDAR, alignment and uniformity: plain formulas, known answers, and views that the pipeline makes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import linalg, special

from nidim.embedding import embed, embed_views
from nidim.encoders import ConvNet, EncoderModel
from nidim.evaluate import representation
from nidim.evaluate.report import Representation
from nidim.normalize import UnitMoments
from nidim.spec.views import DigitsAugmentation, NoiseAugmentation

M, V, D = 60, 4, 6


def views(m: int = M, v: int = V, d: int = D, *, within: float = 0.3, seed: int = 0) -> np.ndarray:
    """Images at N(0, I), views about them."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, 1, d)) + within * rng.standard_normal((m, v, d))


def entropy_rank(spectrum: np.ndarray) -> float:
    return float(np.exp(special.entr(spectrum / spectrum.sum()).sum()))


def test_rankme_is_the_entropy_of_the_singular_values() -> None:
    x = views().reshape(-1, D) * np.arange(1, D + 1)
    expected = entropy_rank(np.linalg.svd(x, compute_uv=False))
    assert representation.rankme(x) == pytest.approx(expected, rel=1e-9)


def test_lidar_is_that_of_the_generalised_eigenvalues() -> None:
    """λ of S_b x = λ S_w x, with sums over images and views written out."""
    x = views() * np.arange(1, D + 1)
    means = x.mean(axis=1)
    between, within = np.zeros((D, D)), np.zeros((D, D))
    for i in range(M):
        off = means[i] - means.mean(axis=0)
        between += np.outer(off, off) / (M - 1)
        for j in range(V):
            own = x[i, j] - means[i]
            within += np.outer(own, own) / (M * (V - 1))
    expected = entropy_rank(linalg.eigh(between, within + 1e-4 * np.eye(D), eigvals_only=True))
    assert representation.lidar(x) == pytest.approx(expected, rel=1e-9)


def test_alignment_and_uniformity_are_the_plain_means_over_pairs() -> None:
    x = views()
    unit = x / np.linalg.norm(x, axis=2, keepdims=True)
    same = [
        np.square(unit[i, a] - unit[i, b]).sum()
        for i in range(M)
        for a, b in itertools.combinations(range(V), 2)
    ]
    other = [
        math.exp(-2 * np.square(unit[i, k] - unit[j, k]).sum())
        for k in range(V)
        for i, j in itertools.combinations(range(M), 2)
    ]
    found = representation.representation(x)
    assert found.alignment == pytest.approx(np.mean(same), rel=1e-9)
    assert found.uniformity == pytest.approx(math.log(np.mean(other)), rel=1e-9)
    assert (found.n, found.views) == (M, V)


def test_uniform_directions_have_the_known_potential() -> None:
    """On the circle E e^{−2‖u−w‖²} = e^{−4} I_0(4)."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (3000, 1))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    assert representation.uniformity(circle) == pytest.approx(math.log(special.ive(0, 4)), abs=0.01)


def test_a_better_encoder_has_larger_ranks_and_nearer_views() -> None:
    good = representation.representation(views(within=0.1))
    worse = representation.representation(views(within=1.0))
    assert good.alignment < worse.alignment
    low = views() * np.array([1, 1, 1, 1e-3, 1e-3, 1e-3])
    assert representation.representation(low).rankme < 3.1 < 5 < good.rankme <= D
    inside = views(within=0.1) * np.array([1.0, 1, 1, 0, 0, 0])
    assert representation.representation(inside).lidar < 3.1 < 4.5 < good.lidar <= D


@pytest.mark.parametrize("constant", [0.0, 2.0])
def test_a_collapsed_encoder_has_figures_and_no_error(constant: float) -> None:
    found = representation.representation(np.full((5, 3, 2), constant))
    assert found.alignment == pytest.approx(0, abs=1e-12)
    assert found.uniformity == pytest.approx(0, abs=1e-12)
    assert found.rankme <= 1.001
    assert found.lidar == 0


def test_it_needs_two_images_and_two_views() -> None:
    assert "1 views of 5" in representation.why_not(np.zeros((5, 1, 2)))
    assert "5 views of 1" in representation.why_not(np.zeros((1, 5, 2)))
    assert representation.why_not(np.zeros((2, 2, 2))) is None


def test_every_figure_of_the_section_is_described() -> None:
    assert all(field.description for field in Representation.model_fields.values())


def model() -> EncoderModel:
    torch.manual_seed(0)
    network = ConvNet(channels=1, image_size=8, width=4, dim=3)
    return EncoderModel(network, UnitMoments(3), torch.nn.Identity()).eval()


def test_views_of_the_same_image_stand_together_and_follow_the_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    encoder, quiet = model(), NoiseAugmentation(pixel_noise=0.0)
    same = embed_views(encoder, images, quiet, views=3, seed=0)
    assert same.shape == (5, 3, 3)
    np.testing.assert_allclose(same, np.repeat(embed(encoder, images)[:, None], 3, axis=1), atol=1e-6)
    first, again, other = (
        embed_views(encoder, images, DigitsAugmentation(), views=3, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.ptp(first, axis=1).min() > 0, "every view is another"
