"""Distances: equal to SciPy or to a slow reference; one on true draws, growing with the error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from nidim.evaluate import moments, wasserstein
from nidim.evaluate.battery import QUICK, battery
from nidim.evaluate.distances import Settings, score_floor
from nidim.evaluate.epps_pulley import directions
from nidim.evaluate.report import Distance
from nidim.priors import GaussianPrior, Prior, UniformPrior

D = 4
SETTINGS = Settings(slices=32, pair_rows=512, floor_sets=6)


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def ratios(x: np.ndarray, prior: Prior) -> dict[str, float]:
    found, _ = battery(x, prior, which="clean", law="", effort=QUICK)
    return {name: d.ratio for name, d in found.distances if isinstance(d, Distance)}


def test_one_sample_wasserstein_is_the_integral_over_quantiles():
    x = np.sort(normal(7, 1)[:, 0] * 1.4 + 0.2)
    found = wasserstein.squared_to_normal(x[:, None], np.ones((1, 1)))[0]
    cells = [
        integrate.quad(lambda u, value=value: (value - special.ndtri(u)) ** 2, i / 7, (i + 1) / 7)[0]
        for i, value in enumerate(x)
    ]
    assert found == pytest.approx(sum(cells), rel=1e-6)


def test_the_quantile_weights_sum_to_nothing_and_make_the_variance():
    weights = wasserstein.quantile_weights(1000)
    assert weights.sum() == pytest.approx(0, abs=1e-15)
    assert 1000 * np.square(weights).sum() == pytest.approx(1, abs=0.01)


def test_two_sample_wasserstein_of_a_shift_is_the_shift():
    x, a = normal(300, 3), directions(3, 20, seed=0)
    shift = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(wasserstein.squared_to_sample(x, x + shift, a), (shift @ a) ** 2, rtol=1e-9)
    with pytest.raises(ValueError, match="equally many"):
        wasserstein.squared_to_sample(x, x[:10], a)


def test_sliced_wasserstein_is_scipys_first_order_where_the_order_does_not_matter():
    """W2 and W1 agree when one sample is the other, moved by a constant."""
    x = normal(200, 1)
    found = wasserstein.squared_to_sample(x, x + 0.7, np.ones((1, 1)))[0]
    assert np.sqrt(found) == pytest.approx(stats.wasserstein_distance(x[:, 0], x[:, 0] + 0.7))


def test_skewness_and_kurtosis_are_scipys():
    x = np.random.default_rng(0).gamma(3, size=(500, 70))
    skew, kurtosis = moments.skew_and_kurtosis(x)
    np.testing.assert_allclose(skew, stats.skew(x), rtol=1e-9)
    np.testing.assert_allclose(kurtosis, stats.kurtosis(x), rtol=1e-9)


def test_correlations_are_numpys_and_survive_a_dead_coordinate():
    x = normal(200, 3)
    covariance = np.cov(x, rowvar=False)
    expected = np.corrcoef(x, rowvar=False)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(moments.correlations(covariance), expected)
    x[:, 0] = 1.0
    assert np.isfinite(list(moments.moment_errors(x).values())).all()


def test_effective_rank_counts_directions():
    assert moments.effective_rank(np.eye(5)) == pytest.approx(5)
    assert moments.effective_rank(np.diag([1.0, 1.0, 0.0])) == pytest.approx(2)
    assert moments.effective_rank(np.zeros((3, 3))) == 0


PRIORS = [
    GaussianPrior(D),
    GaussianPrior(D, scale=1.2),
    UniformPrior(D),
    UniformPrior(D, construction="sigmoid", low=-0.1, high=1.1),
]


@pytest.mark.parametrize("prior", PRIORS, ids=["normal", "wider normal", "uniform", "wider uniform"])
def test_true_draws_are_at_the_floor(prior):
    mean = {}
    for seed in range(4):
        for name, ratio in ratios(prior.sample(1500, seed=100 + seed), prior).items():
            mean[name] = mean.get(name, 0) + ratio / 4
    assert len(mean) == 15
    for name, ratio in mean.items():
        assert 0.6 < ratio < 1.6, name


@pytest.mark.parametrize("prior", PRIORS[::2], ids=["normal", "uniform"])
def test_the_distances_grow_with_the_error(prior):
    def moved(by: float) -> dict[str, float]:
        scores = prior.normal_scores(prior.sample(1500, seed=1)) + by
        return ratios(prior.from_normal_scores(scores), prior)

    near, far = moved(0.1), moved(0.4)
    for name in ("sw2", "sw2_worst", "energy", "mmd", "bhep", "epps_pulley", "mean_rms"):
        assert 1.2 < near[name] < far[name], name


def test_a_collapsed_direction_shows_in_the_effective_rank():
    x = normal(1000, D)
    x[:, 1] = x[:, 0]
    found = ratios(x, GaussianPrior(D))
    assert found["effective_rank"] < 0.85
    assert found["correlation_max"] > 10


def test_values_outside_the_support_are_counted_and_do_no_harm():
    x = UniformPrior(2).sample(300, seed=0)
    x[:30, 0], x[30:60, 1] = 1.0, -0.5
    found, _ = battery(x, UniformPrior(2), which="clean", law="", effort=QUICK)
    assert found.outside == pytest.approx(60 / 600)
    assert found.simple.ks.reject


def test_a_constant_embedding_is_described_and_not_an_error():
    found, absent = battery(np.zeros((200, 2)), GaussianPrior(2), which="clean", law="", effort=QUICK)
    assert found.collapsed == 2
    assert all(outcome.reject for name, outcome in found.simple if name != "mean")
    assert absent == {
        "clean.fitted.mardia_skewness": "the covariance is singular",
        "clean.fitted.mardia_kurtosis": "the covariance is singular",
    }


def test_floors_are_computed_once():
    before = score_floor.cache_info().misses
    first = score_floor(300, 2, SETTINGS)
    assert score_floor(300, 2, SETTINGS) is first
    assert score_floor.cache_info().misses == before + 1


def test_rows_are_shuffled_so_that_their_order_does_not_matter():
    """Sorted by norm, the first rows alone would fail every test on a subsample."""
    x = normal(3000, 3)
    x = x[np.argsort(np.square(x).sum(axis=1))]
    found, _ = battery(x, GaussianPrior(3), which="clean", law="", effort=QUICK)
    assert not found.simple.energy.reject
    assert found.distances.energy.ratio < 1.7
