"""The uniform law on the sphere: its density, its coordinates, its great circles, and what it has not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nidim.priors import SpherePrior, prior_from_dict
from nidim.streams import uniform_of


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_the_density_is_scipys_and_there_is_none_off_the_sphere(dim: int) -> None:
    prior, law = SpherePrior(dim), stats.uniform_direction(dim)
    draws = prior.sample(200, seed=1)
    area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    np.testing.assert_allclose(prior.log_prob(draws), -math.log(area))
    np.testing.assert_allclose(prior.log_prob(law.rvs(50, random_state=0)), -math.log(area))
    off = draws[:3] * [[1.001], [0.5], [0.0]]
    assert (prior.log_prob(off) == -np.inf).all()
    assert np.isinf(prior.normal_scores(off)).all()
    np.testing.assert_array_equal(prior.p_value(np.concatenate([draws[:2], off])), [1, 1, 0, 0, 0])


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_a_coordinate_has_the_law_of_the_docstring(dim: int) -> None:
    prior = SpherePrior(dim)
    half = (dim - 1) / 2
    law = stats.beta(half, half, -1, 2)
    assert stats.kstest(prior.sample(5000, seed=2)[:, 1], law.cdf).pvalue > 0.01
    levels = np.array([0.001, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(prior.quantiles(levels)[:, 1], law.ppf(levels), atol=1e-9)


def test_the_area_of_a_cap_is_the_share_of_the_draws_in_it() -> None:
    """S²: a cap of height h has the share h/2 (Archimedes), about any axis."""
    draws, axis = SpherePrior(3).sample(20_000, seed=3), np.array([1, -2, 2]) / 3
    for height in (0.1, 0.7, 1.3):
        share = (draws @ axis > 1 - height).mean()
        assert share == pytest.approx(height / 2, abs=4 * math.sqrt(0.25 / 20_000))


def test_the_radius_of_the_scores_follows_chi_and_depends_on_the_point_alone() -> None:
    prior = SpherePrior(4)
    draws = prior.sample(5000, seed=4)
    scores = prior.normal_scores(draws)
    radius = np.linalg.norm(scores, axis=1)
    assert stats.kstest(radius, stats.chi(4).cdf).pvalue > 0.01
    for column in draws.T:
        assert abs(stats.spearmanr(radius, column).statistic) < 4 / math.sqrt(5000)
    np.testing.assert_array_equal(prior.normal_scores(draws[::-1])[::-1], scores)
    again = np.concatenate([draws[:1], draws[:1]])
    assert len(np.unique(prior.normal_scores(again), axis=0)) == 1


def test_numbers_that_follow_from_values() -> None:
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    u = uniform_of(x)
    assert stats.kstest(u, "uniform").pvalue > 0.01
    neighbour = np.nextafter(x, np.float32(9))
    assert abs(np.corrcoef(u, uniform_of(neighbour))[0, 1]) < 4 / math.sqrt(4000)
    np.testing.assert_array_equal(uniform_of(np.array([[0.0, 1.0]])), uniform_of(np.array([[-0.0, 1.0]])))
    assert uniform_of(np.array([[0.0, 1.0]])) != uniform_of(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(uniform_of(np.array([[0.6, -0.8]])), GOLDEN, rtol=1e-15)


GOLDEN = [0.8398816135417779]


def test_a_way_is_a_great_circle_at_an_even_pace() -> None:
    prior = SpherePrior(3)
    a, b = prior.sample(2, seed=5).astype(np.float64)
    points = prior.interpolate(a, b, 9)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(points[[0, -1]], [a, b], atol=1e-6)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert np.linalg.svd(points)[1][2] == pytest.approx(0, abs=1e-6), "all in one plane through the centre"


@pytest.mark.parametrize("sign", [1, -1], ids=["the same point", "opposite points"])
def test_a_way_that_no_great_circle_is_alone_for(sign: int) -> None:
    prior = SpherePrior(3)
    a = prior.sample(1, seed=6)[0].astype(np.float64)
    points = prior.interpolate(a, sign * a, 5)
    np.testing.assert_allclose(points[-1], sign * a, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-12)


def test_a_sphere_of_one_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        SpherePrior(1)
    assert prior_from_dict({"kind": "sphere", "dim": 3}) == SpherePrior(3)


def test_what_has_no_direction_has_no_way_and_a_nan_no_score() -> None:
    prior = SpherePrior(3)
    for a, b in (([0, 0, 0], [1, 0, 0]), ([1, 0, 0], [0, 0, 0])):
        with pytest.raises(ValueError, match="no direction"):
            prior.interpolate(a, b, 3)
    with pytest.raises(ValueError, match="a must be numbers, not NaN"):
        prior.interpolate([np.nan, 0, 0], [1, 0, 0], 3)
    assert np.isnan(prior.normal_scores([[np.nan, 0, 0]])).all()
