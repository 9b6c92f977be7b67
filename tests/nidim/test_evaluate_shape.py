"""Henze–Zirkler, Mardia and the classics per coordinate: published values, SciPy, calibration, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_iris

from nidim.evaluate import henze_zirkler, pairs, shape
from nidim.evaluate.battery import fitted_tests


@pytest.fixture(scope="module")
def setosa() -> np.ndarray:
    return load_iris().data[:50]


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize(
    ("columns", "statistic", "p"), [(4, 0.9488453, 0.04995356), (2, 0.286, 0.915)], ids=["four", "two"]
)
def test_henze_zirkler_is_that_of_the_r_package_mvn_on_iris_setosa(setosa, columns, statistic, p):
    found = henze_zirkler.henze_zirkler(setosa[:, :columns])
    digits = 7 if columns == 4 else 3
    assert round(float(found[0]), digits) == statistic
    assert round(float(found[1]), min(digits + 1, 8)) == pytest.approx(p, abs=10**-digits)


def test_henze_zirkler_of_a_batch_is_that_of_each_set():
    x = normal(5 * 30, 3).reshape(5, 30, 3)
    statistic, p = henze_zirkler.henze_zirkler(x)
    single = [henze_zirkler.henze_zirkler(one) for one in x]
    np.testing.assert_allclose(statistic, [s for s, _ in single], rtol=1e-12)
    np.testing.assert_allclose(p, [q for _, q in single], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 33, 64, 66, 130])
def test_sums_over_all_pairs_of_small_sets(n: int):
    x = np.random.default_rng(n).standard_normal((3, 2, n, 4))
    apart = np.square(x[..., :, None, :] - x[..., None, :, :]).sum(-1)
    np.testing.assert_allclose(pairs.gaussian_sums(x, 1.3), np.exp(-0.65 * apart).sum((-2, -1)), rtol=1e-12)


def test_henze_zirkler_of_many_points_holds_no_array_of_all_pairs(monkeypatch: pytest.MonkeyPatch):
    x = np.random.default_rng(0).standard_normal((2, 300, 3)) ** 3
    whole = henze_zirkler.henze_zirkler(x)
    monkeypatch.setattr(henze_zirkler, "_WHOLE", 100)
    np.testing.assert_allclose(henze_zirkler.henze_zirkler(x), whole, rtol=1e-10)


def test_henze_zirkler_does_not_see_affine_maps():
    x = normal(64, 3)
    moved = x @ np.array([[2.0, 1.0, 0.0], [0.0, 0.1, 3.0], [1.0, 0.0, 1.0]]) + 5
    assert henze_zirkler.henze_zirkler(moved)[0] == pytest.approx(henze_zirkler.henze_zirkler(x)[0], rel=1e-9)


def test_a_collapsed_set_is_rejected_outright():
    x = normal(64, 2)
    flat = np.stack([x[:, 0], x[:, 0]], axis=1)
    for degenerate in (flat, np.zeros((64, 2))):
        statistic, p = henze_zirkler.henze_zirkler(degenerate)
        assert statistic == 4 * 64
        assert p < 1e-6


@pytest.mark.parametrize(("d", "mean"), [(2, 0.496), (4, 0.488), (8, 0.444), (16, 0.318), (32, 0.147)])
def test_the_protocol_has_the_known_mean_on_true_gaussians(d, mean):
    assert henze_zirkler.null_p(d, 4000, 128).mean() == pytest.approx(mean, abs=0.015)


def test_the_protocol_is_impossible_from_64_dimensions_on_and_says_so():
    assert "singular" in henze_zirkler.why_not(10_000, 64)
    assert "32" in henze_zirkler.why_not(32, 2)
    assert henze_zirkler.why_not(10_000, 63) is None
    tests, absent = fitted_tests(normal(200, 64), subsamples=16, seed=0)
    assert tests.henze_zirkler is None
    assert "singular" in absent["henze_zirkler"]


def test_the_protocol_flags_what_is_below_its_null_and_not_true_draws():
    flags = [henze_zirkler.protocol(normal(4000, 2, s), subsamples=512, seed=s).below_null for s in range(40)]
    assert sum(flags) <= 6
    heavy = np.random.default_rng(0).standard_t(4, (4000, 2))
    found = henze_zirkler.protocol(heavy, subsamples=512)
    assert found.below_null
    assert found.reject > 2 * found.reject_null
    assert sum(found.histogram) == 512
    assert sum(found.histogram_null) == pytest.approx(512)


def test_mardia_is_that_of_the_r_package_mvn_on_iris_setosa(setosa):
    y = shape.whiten(setosa)
    chi2 = len(y) * shape.mardia_skewness_statistic(y) / 6
    assert chi2 == pytest.approx(25.6643445196298, rel=1e-10)
    assert stats.chi2.sf(chi2, 20) == pytest.approx(0.177185884467652, rel=1e-9)
    b2 = np.square(np.square(y).sum(axis=1)).mean()
    assert (b2 - 24) / np.sqrt(8 * 24 / len(y)) == pytest.approx(1.29499223711605, rel=1e-10)


def test_mardia_skewness_is_the_same_by_moments_and_by_pairs():
    y = shape.whiten(np.random.default_rng(0).exponential(size=(300, 5)))
    pairs = ((y @ y.T) ** 3).sum() / len(y) ** 2
    assert shape.mardia_skewness_statistic(y) == pytest.approx(pairs, rel=1e-10)
    wide = shape.whiten(normal(300, 20))
    assert shape.mardia_skewness_statistic(wide) == pytest.approx(((wide @ wide.T) ** 3).sum() / 300**2)


def test_a_singular_covariance_has_no_whitening():
    x = normal(100, 2)
    assert shape.whiten(np.stack([x[:, 0], x[:, 0]], axis=1)) is None


@pytest.mark.parametrize("d", [2, 8])
def test_mardia_rejects_true_draws_one_time_in_twenty(d):
    flags = np.array(
        [
            [shape.mardia_skewness(y).reject, shape.mardia_kurtosis(y).reject]
            for y in (shape.whiten(normal(1000, d, s)) for s in range(300))
        ]
    )
    assert (flags.sum(axis=0) <= 26).all()  # 15 expected, sd 3.8
    assert (flags.sum(axis=0) >= 5).all()


def test_kurtosis_is_calibrated_where_d_is_not_small():
    z = [shape.mardia_kurtosis(shape.whiten(normal(1000, 96, s))).statistic for s in range(8)]
    assert abs(np.mean(z)) < 4 / np.sqrt(8)
    assert 0.5 < np.std(z) < 1.7


def test_anderson_darling_is_scipys():
    x = np.random.default_rng(0).gamma(8, size=(300, 3))
    statistic, _ = shape.anderson_darling(x)
    expected = [stats.anderson(column, "norm", method="interpolate").statistic for column in x.T]
    np.testing.assert_allclose(statistic, expected, rtol=1e-10)


def test_the_p_of_anderson_darling_agrees_with_scipys_table():
    """SciPy interpolates between the critical values of 15 % to 1 %."""
    x = np.random.default_rng(1).gamma(60, size=(400, 60))
    p = shape.anderson_darling(x)[1]
    table = np.array([stats.anderson(column, "norm", method="interpolate").pvalue for column in x.T])
    inside = (table > 0.011) & (table < 0.149)
    assert inside.sum() >= 5
    np.testing.assert_allclose(p[inside], table[inside], rtol=0.15)


def test_anderson_darling_rejects_true_draws_one_time_in_twenty():
    p = shape.anderson_darling(normal(300, 3000))[1]
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.014)
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.03)
    assert shape.anderson_darling(np.random.default_rng(0).exponential(size=(5000, 1)))[1] < 1e-15


def test_shapiro_and_dagostino_are_scipys():
    x = np.random.default_rng(0).gamma(8, size=(300, 2))
    np.testing.assert_allclose(shape.shapiro_p(x), [stats.shapiro(c).pvalue for c in x.T])
    np.testing.assert_allclose(shape.dagostino_p(x), [stats.normaltest(c).pvalue for c in x.T])


def test_dagostino_decides_by_its_parts_which_keep_their_level_where_k2_does_not():
    x = np.random.default_rng(0).standard_normal((1000, 6000))
    level = 0.05 / 128  # expected: 2.3 of 6000
    assert (shape.dagostino_p(x) < 10 * level).mean() > 1.2 * 10 * level
    assert (shape.dagostino_parts_p(x) < 10 * level).mean() < 1.45 * 10 * level
    parts = [[stats.skewtest(c).pvalue, stats.kurtosistest(c).pvalue] for c in x[:, :5].T]
    np.testing.assert_allclose(shape.dagostino_parts_p(x[:, :5]), np.minimum(2 * np.min(parts, axis=1), 1))


def test_marginals_tell_the_coordinate_that_fails():
    x = normal(2000, 6)
    x[:, 4] = np.random.default_rng(1).exponential(size=2000)
    for found in shape.all_marginals(x).values():
        assert found.worst_coordinate == 4
        assert found.reject
        assert found.pass_share >= 4 / 6


def test_a_thousand_at_a_time_say_the_same_of_a_test_set_of_any_size():
    skew = np.random.default_rng(2).gamma(
        60, size=(12_000, 40)
    )  # skewness .26, of 1,000 told mostly, of 12,000 always
    few, many = (shape.marginals(x, shape.dagostino_p) for x in (skew[:3000], skew))
    blocks = [stats.normaltest(skew[i : i + 1000]).pvalue >= 0.05 for i in range(0, 10_000, 1000)]
    assert many.pass_share_of_1000 == pytest.approx(np.mean(blocks))
    assert 0.05 < many.pass_share_of_1000 < 0.4
    assert abs(few.pass_share_of_1000 - many.pass_share_of_1000) < 0.12
    assert many.pass_share == 0
    law = shape.marginals(normal(5000, 64), shape.dagostino_p)
    assert law.pass_share_of_1000 == pytest.approx(0.95, abs=0.04)
    assert shape.marginals(normal(999, 2), shape.dagostino_p).pass_share_of_1000 is None


def test_a_coordinate_without_variance_fails():
    x = normal(100, 3)
    x[:, 1] = 2.5
    for found in shape.all_marginals(x).values():
        assert (found.worst_coordinate, found.worst_p) == (1, 0.0)


def test_fitted_tests_pass_any_gaussian():
    x = 5 + normal(3000, 3, seed=4) @ np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [0.0, 0.0, 3.0]])
    tests, absent = fitted_tests(x, subsamples=64, seed=0)
    assert absent == {}
    assert not tests.mardia_skewness.reject
    assert not tests.mardia_kurtosis.reject
    assert not any(m.reject for m in (tests.shapiro, tests.dagostino, tests.anderson))
    assert tests.henze_zirkler.p > 0.3
