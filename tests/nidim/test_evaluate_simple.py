"""Tests of the promise itself: equal to SciPy's, right level on true draws, power against what matters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial.distance import cdist

from nidim.evaluate import bhep, epps_pulley, henze_zirkler, pairs, simple
from nidim.evaluate.battery import QUICK, simple_tests
from nidim.evaluate.report import SimpleTests


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def all_tests(s: np.ndarray) -> SimpleTests:
    return simple_tests(s, epps_pulley.sliced(s, slices=32, seed=0), effort=QUICK, seed=0)


def test_kolmogorov_smirnov_is_scipys():
    s = normal(257, 3) * 1.1
    single = [stats.kstest(column, "norm") for column in s.T]
    found = simple.ks(s)
    assert found.statistic == pytest.approx(max(t.statistic for t in single), rel=1e-12)
    fisher = stats.combine_pvalues([t.pvalue for t in single], method="fisher").pvalue
    assert found.p == pytest.approx(fisher, rel=1e-9)
    assert simple.ks(s[:, :1]).p == pytest.approx(single[0].pvalue, rel=1e-9)


def test_kolmogorov_smirnov_survives_a_p_below_the_smallest_float():
    assert simple.ks(normal(20_000, 2) + 3).p == 0.0


def test_pearson_is_scipys():
    s = normal(640, 1)
    counts = np.histogram(special.ndtr(s[:, 0]), bins=32, range=(0, 1))[0]
    found, expected = simple.chi2(s), stats.chisquare(counts)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_radius_is_scipys_test_of_the_squared_norm():
    s = normal(300, 4)
    expected = stats.kstest(np.square(s).sum(axis=1), stats.chi2(4).cdf)
    assert simple.radius(s).p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 8, 32])
def test_mean_distance_to_the_normal_has_its_closed_form(d):
    norms = np.array([0.0, 0.3, 5.0, 50.0])
    constant = np.sqrt(2) * np.exp(special.gammaln((d + 1) / 2) - special.gammaln(d / 2))
    closed = constant * special.hyp1f1(-0.5, d / 2, -norms / 2)
    np.testing.assert_allclose(pairs.mean_distance_to_normal(norms, d), closed, rtol=1e-10)


def test_mean_distance_to_the_normal_holds_where_the_closed_form_overflows():
    point = np.full(512, 1.0)
    simulated = np.linalg.norm(point + normal(4000, 512), axis=1).mean()
    assert pairs.mean_distance_to_normal(np.array([512.0]), 512)[0] == pytest.approx(simulated, rel=1e-3)


def test_energy_distance_is_scipys_in_one_dimension():
    x = normal(400, 1) + 0.4
    q = special.ndtri((np.arange(20_000) + 0.5) / 20_000)
    energy, _ = pairs.energy_and_mmd(x)
    assert energy == pytest.approx(stats.energy_distance(x[:, 0], q), rel=2e-3)


def test_energy_and_mmd_by_blocks_are_the_dense_ones():
    x = normal(150, 3) * 1.3
    energy, mmd = pairs.energy_and_mmd(x)
    norms = np.square(x).sum(axis=1)
    within = 2 * np.exp(special.gammaln(2) - special.gammaln(1.5))
    dense = 2 * pairs.mean_distance_to_normal(norms, 3).mean() - within - cdist(x, x).mean()
    assert energy == pytest.approx(np.sqrt(dense), rel=1e-9)
    kernel = np.exp(-cdist(x, x, "sqeuclidean") / 6).mean()
    to_law = (3 / 4) ** 1.5 * np.exp(-norms / 8).mean()
    assert mmd == pytest.approx(np.sqrt(kernel - 2 * to_law + (3 / 5) ** 1.5), rel=1e-9)


def test_sums_over_pairs_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch):
    x = normal(57, 4)
    squared = cdist(x, x, "sqeuclidean")
    expected = [np.exp(-squared / 3).sum(), squared.sum()]
    for entries in (1, 100, 57 * 57, 10**6):
        monkeypatch.setattr(pairs, "_ENTRIES", entries)
        found = pairs.sums_over_pairs(x, lambda block: np.exp(block / -3), lambda block: block)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_energy_test_is_the_two_sample_energy_statistic():
    x = normal(60, 2) + 0.3
    found = pairs.energy_test(x, permutations=1, seed=3)
    y = pairs.generator(3, "energy test").standard_normal((60, 2))
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert found.statistic == pytest.approx(expected, rel=1e-4)


def test_epps_pulley_by_blocks_is_the_plain_formula():
    x, a = normal(300, 3) * 0.9, epps_pulley.directions(3, 5, seed=0)
    t, w = epps_pulley.knots()
    phi = np.exp(1j * t[:, None, None] * (x @ a)).mean(axis=1)
    gap = np.square(np.abs(phi - np.exp(-(t**2) / 2)[:, None]))
    np.testing.assert_allclose(epps_pulley.slice_statistics(x, a), 300 * w @ gap, rtol=1e-9)


def test_the_knots_integrate_as_their_weight_does():
    t, w = epps_pulley.knots()
    assert w.sum() == pytest.approx(1.0)
    assert w @ t**2 == pytest.approx(1.0)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_the_limit_law_of_epps_pulley_has_the_right_mean_spread_and_tail(d):
    a = epps_pulley.directions(d, 16, seed=0)
    law = epps_pulley.limit_law(a)
    values = np.array([epps_pulley.slice_statistics(normal(300, d, s), a).mean() for s in range(800)])
    assert values.mean() == pytest.approx(law.mean, rel=5 * law.sd / law.mean / np.sqrt(800))
    assert values.std() == pytest.approx(law.sd, rel=0.15)
    p = np.array([law.sf(v) for v in values])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.055)


def test_the_tail_of_a_sum_of_chi_squares():
    one = epps_pulley.ChiSquareSum(7.0, 7.0, 7.0, 7.0)
    assert one.sf(14.0) == pytest.approx(stats.chi2(7).sf(14.0), rel=1e-9)
    weights = 0.6 ** np.arange(8)
    law = epps_pulley.ChiSquareSum(*(float((weights**j).sum()) for j in (1, 2, 3, 4)))
    draws = np.random.default_rng(0).chisquare(1, (100_000, 8)) @ weights
    for q, within in zip(
        np.quantile(draws, [0.5, 0.9, 0.95, 0.99]), (0.02, 0.004, 0.003, 0.002), strict=True
    ):
        assert law.sf(q) == pytest.approx((draws > q).mean(), abs=within)
    assert law.sf(-1.0) == 1.0


def curve(n: int, d: int) -> np.ndarray:
    """A thin set: a closed curve in R^d whose coordinates have zero mean and unit variance."""
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, n)
    harmonics = np.arange(1, d // 2 + 1)
    angles = t[:, None] * harmonics
    return np.sqrt(2) * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def wrong_laws() -> dict[str, tuple[np.ndarray, set[str]]]:
    x = normal(2000, 8)
    heavy = np.random.default_rng(1).standard_t(5, (2000, 8)) * np.sqrt(3 / 5)
    correlated = x.copy()
    correlated[:, 1] = 0.35 * x[:, 0] + np.sqrt(1 - 0.35**2) * x[:, 1]
    shifted = x + np.array([0.15, *[0.0] * 7])
    return {
        "shift": (shifted, {"mean", "ks"}),
        "scale": (1.12 * x, {"covariance", "radius", "sliced_epps_pulley"}),
        "correlation": (correlated, {"covariance"}),
        "kurtosis": (heavy, {"radius", "ks", "chi2"}),
        "thin curve": (curve(2000, 8), {"radius", "energy", "bhep"}),
        "far away": (x + 5, set(SimpleTests.model_fields)),
    }


@pytest.mark.parametrize("name", list(wrong_laws()))
def test_a_wrong_law_is_seen_by_the_tests_made_for_it(name):
    s, seen_by = wrong_laws()[name]
    outcomes = dict(all_tests(s))
    assert {test for test in seen_by if not outcomes[test].reject} == set()


def sheet(n: int, d: int, seed: int = 0) -> np.ndarray:
    """A curved sheet of four dimensions in R^d with zero mean and unit covariance: all second moments are right."""
    rng = np.random.default_rng(seed)
    hidden = np.tanh(rng.standard_normal((n, 4)) @ rng.standard_normal((4, 64)) + rng.standard_normal(64))
    x = hidden @ rng.standard_normal((64, d))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / n)).T


def test_a_thin_sheet_with_the_right_covariance_is_seen_by_bhep_where_energy_is_blind():
    outcomes = dict(all_tests(sheet(1000, 16)))
    assert outcomes["bhep"].reject
    assert not outcomes["energy"].reject
    assert not outcomes["covariance"].reject


@pytest.mark.parametrize("d", [2, 8])
def test_bhep_is_henze_zirkler_where_the_moments_fit_by_themselves(d):
    """Whitened by its own moments, a set of 64 has the same statistic either way."""
    x = normal(64, d)
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / 64)).T
    assert bhep.statistic(x) == pytest.approx(float(henze_zirkler.henze_zirkler(x)[0]), rel=1e-9)


@pytest.mark.parametrize("factor", [1e8, 1e9, 1e11])
def test_bhep_of_points_far_apart_is_that_of_no_neighbours(factor):
    x = factor * np.random.default_rng(0).standard_normal((300, 3))
    most = 1 + 300 * (1 + 2 * bhep.bandwidth(3)) ** -1.5
    assert most - 1 <= bhep.statistic(x) <= most


@pytest.mark.parametrize("d", [2, 8, 32])
def test_bhep_has_its_exact_mean_on_true_draws(d):
    values = bhep.null(100, d, 99)
    expected = 1 - (1 + 2 * bhep.bandwidth(d)) ** (-d / 2)
    assert values.mean() == pytest.approx(expected, abs=5 * values.std() / np.sqrt(99))


def test_any_gaussian_passes_the_fitted_tests_but_not_these():
    outcomes = dict(all_tests(5 + 2 * normal(1000, 3)))
    assert all(outcome.reject for outcome in outcomes.values())
