"""The same laws for every prior."""

from __future__ import annotations

import math
import typing
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import special, stats

from nidim.capacity import Resolved
from nidim.evaluate import epps_pulley
from nidim.evaluate.battery import Effort, simple_tests
from nidim.evaluate.laws import finite_scores
from nidim.evaluate.report import SimpleTests
from nidim.noisy import add_noise
from nidim.priors import (
    Construction,
    GaussianPrior,
    IndependentPrior,
    MarginalPrior,
    Prior,
    SpherePrior,
    UniformPrior,
    make_prior,
    noisy_prior,
    prior_from_dict,
)
from nidim.spec import DatasetFacts, TrainSpec, laws
from nidim.spec.base import Part
from tests.nidim.samples import fitted_arc

PRIORS = [
    GaussianPrior(3),
    GaussianPrior(2, scale=1.5),
    UniformPrior(3),
    UniformPrior(2, construction="sigmoid", low=-0.1, high=1.1),
    MarginalPrior(3, laws.LaplacePrior()),
    MarginalPrior(2, laws.StudentTPrior(df=4, loc=1, scale=3)),
    MarginalPrior(2, laws.LogisticPrior(scale=0.5)),
    MarginalPrior(2, laws.BetaPrior(a=2, b=5, loc=-1, scale=2)),
    MarginalPrior(2, laws.ExponentialPrior()),
]
ORACLES = [
    *(stats.norm(), stats.norm(scale=1.5), stats.uniform(), stats.uniform(-0.1, 1.2)),
    *(stats.laplace(), stats.t(4, 1, 3), stats.logistic(scale=0.5), stats.beta(2, 5, -1, 2), stats.expon()),
]
MIXTURE = laws.GaussianMixturePrior(
    components=(
        laws.Component(mean=-3),
        laws.Component(mean=2, scale=0.8),
        laws.Component(weight=0.5, mean=2.5, scale=3),
    )
)
EVERY = [*PRIORS, MarginalPrior(2, MIXTURE)]
SPHERES = [SpherePrior(2), SpherePrior(5)]
FLOW = "flow"
"""Stands for a flow, which takes seconds to fit."""


def name_of(prior: Prior | str) -> str:
    return prior if isinstance(prior, str) else f"{prior.kind}{prior.dim}"


@pytest.fixture
def prior(request: pytest.FixtureRequest) -> Prior:
    return fitted_arc() if request.param == FLOW else request.param


calibrated = pytest.mark.parametrize(
    "prior", [PRIORS[0], PRIORS[3], EVERY[-1], SPHERES[1], FLOW], indirect=True, ids=name_of
)
"""One law of every kind of map, whose formula has no more to it in another dimension or scale."""
independent = pytest.mark.parametrize("prior", EVERY, ids=name_of)
each_prior = pytest.mark.parametrize("prior", [*EVERY, *SPHERES, FLOW], indirect=True, ids=name_of)


def close_to_normal(scores: np.ndarray) -> bool:
    """Whether no coordinate, no squared length and no product of two coordinates tells these from N(0, I)."""
    n, d = scores.shape
    correlations = np.corrcoef(scores, rowvar=False)[np.triu_indices(d, 1)]
    return (
        stats.kstest(scores.ravel(), "norm").pvalue > 0.01
        and stats.kstest(np.square(scores).sum(1), stats.chi2(d).cdf).pvalue > 0.01
        and (np.abs(correlations) < 4 / math.sqrt(n)).all()
    )


@pytest.mark.parametrize(("prior", "oracle"), list(zip(PRIORS, ORACLES, strict=True)))
def test_equals_scipy(prior: Prior, oracle: stats.rv_continuous) -> None:
    x = oracle.rvs((50, prior.dim), random_state=0)
    np.testing.assert_allclose(prior.log_prob(x), oracle.logpdf(x).sum(1), atol=1e-12)
    np.testing.assert_allclose(prior.cdf(x), oracle.cdf(x), atol=1e-12)
    np.testing.assert_allclose(prior.icdf(oracle.cdf(x)), x, atol=1e-9)


@independent
def test_inverses(prior: IndependentPrior) -> None:
    u = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, (100, prior.dim))
    x = prior.icdf(u)
    np.testing.assert_allclose(prior.cdf(x), u, atol=1e-12)
    np.testing.assert_allclose(prior.from_normal_scores(prior.normal_scores(x)), x, atol=1e-9)
    assert prior_from_dict(prior.describe()) == prior


@each_prior
def test_a_law_and_its_normal_scores(prior: Prior) -> None:
    draws = prior.sample(5000, seed=12)
    assert draws.dtype == np.float32
    scores = prior.normal_scores(draws)
    assert close_to_normal(scores)
    np.testing.assert_allclose(prior.from_normal_scores(scores), draws, atol=2e-7, rtol=1e-9)
    np.testing.assert_allclose(prior.normal_scores(draws[7:9]), scores[7:9], atol=1e-12)
    levels = np.array([0.1, 0.5, 0.9])
    found = np.quantile(draws, levels, axis=0)
    spread = np.ptp(prior.quantiles(levels), axis=0)
    assert (np.abs(prior.quantiles(levels) - found) < 0.06 * spread).all()
    pooled = np.quantile(draws, levels)
    assert (np.abs(prior.pooled_quantiles(levels) - pooled) < 0.06 * spread.mean()).all()


@independent
def test_draws_follow_the_law_and_shifted_ones_do_not(prior: IndependentPrior) -> None:
    draws = prior.sample(5000, seed=11)
    assert draws.dtype == np.float32
    assert stats.kstest(prior.cdf(draws).ravel(), "uniform").pvalue > 0.01
    assert stats.kstest(prior.p_value(draws), "uniform").pvalue > 0.01
    middle = float(np.diff(prior.icdf([0.16, 0.84]))[0]) / 2  # a standard deviation of N(0, 1)
    assert stats.kstest(prior.cdf(draws + 0.1 * middle).ravel(), "uniform").pvalue < 1e-6


def test_the_laws_here_are_held_over_every_kind_and_construction() -> None:
    kinds = {typing.get_args(cls.model_fields["kind"].annotation)[0] for cls in members(laws.PriorSpec)}
    assert {prior.kind for prior in (*EVERY, *SPHERES)} | {FLOW} == kinds
    constructions = {prior.construction for prior in PRIORS if isinstance(prior, UniformPrior)}
    assert constructions == set(typing.get_args(Construction))


def test_the_mixture_is_the_sum_of_its_components() -> None:
    prior = MarginalPrior(2, MIXTURE)
    weights = np.array([1, 1, 0.5]) / 2.5
    components = stats.norm([-3, 2, 2.5], [1, 0.8, 3])
    x = np.linspace(-12, 12, 40).reshape(20, 2)
    density = (weights * components.pdf(x[..., None])).sum(-1)
    np.testing.assert_allclose(prior.log_prob(x), np.log(density).sum(1), rtol=1e-12)
    np.testing.assert_allclose(prior.cdf(x), (weights * components.cdf(x[..., None])).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("prior", [p for p in EVERY if p.through_normal], ids=lambda p: p.name)
def test_neither_tail_loses_digits(prior: Prior) -> None:
    scores = np.linspace(-7, 7, 101)[:, None].repeat(prior.dim, 1)
    atol = (
        1e-7 if prior.kind in ("beta", "uniform") else 1e-11
    )  # near its end a bounded law has no more digits
    inner = np.abs(scores) < (5 if prior.kind == "uniform" else 8)
    found = prior.normal_scores(prior.from_normal_scores(scores))
    np.testing.assert_allclose(found[inner], scores[inner], atol=atol)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "gaussian_mixture", "components": [{"mean": -5}, {"mean": 5}]},
            "nothing lies between -2 and 2",
        ),
        ({"kind": "gaussian_mixture", "components": []}, "at least 1"),
        ({"kind": "beta", "a": 0.5}, "greater than or equal to 1"),
        ({"kind": "student_t", "df": 2}, "greater than 2"),
        ({"kind": "cauchy"}, "cauchy"),
    ],
    ids=str,
)
def test_what_is_no_law_here(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSpec.model_validate({"dataset": "digits", "prior": values})
    with pytest.raises(ValueError, match=message):
        prior_from_dict({"dim": 2, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "gaussian", "scale": -1.0}, "above 0, got -1.0"),
        ({"kind": "gaussian", "scale": float("nan")}, "above 0, got nan"),
        ({"kind": "gaussian", "df": 3}, "prior gaussian: .*df"),
        ({"kind": "uniform", "low": 1.0, "high": 1.0}, "low below high"),
    ],
    ids=str,
)
def test_a_description_that_is_no_law(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prior_from_dict({"dim": 2, **values})


@pytest.mark.parametrize("dim", [None, 0, "2"])
def test_a_law_has_a_dimension(dim: object) -> None:
    with pytest.raises(ValueError, match=f"dim must be a whole number from 1 on, got {dim!r}"):
        prior_from_dict({"kind": "gaussian", "dim": dim})


def members(union: object) -> tuple[type[Part], ...]:
    return typing.get_args(typing.get_args(union)[0])


ROUNDS, SHIFTED_ROUNDS, ROWS = 200, 30, 300
LIGHT = Effort(bhep_rows=100, bhep_sets=99, energy_rows=100, energy_permutations=99)


@calibrated
def test_draws_are_rejected_at_the_nominal_level_of_our_own_tests(prior: Prior) -> None:
    """One seed a round: the seeds of a prior have to be independent of each other as well."""
    rejected = rejections(prior, (prior.sample(ROWS, seed=seed) for seed in seeds(prior, ROUNDS)))
    few, many = stats.binom(ROUNDS, 0.05).ppf([1e-4, 1 - 1e-4])
    assert rejected.keys() == SimpleTests.model_fields.keys()
    for name, count in rejected.items():
        assert count <= many, name
        assert count >= (0 if name == "worst_slice" else few), name  # Bonferroni is conservative


@pytest.mark.parametrize("shift", ["of the draws", "of their scores"])
@calibrated
def test_shifted_draws_are_rejected_nearly_always(prior: Prior, shift: str) -> None:
    """By .4 standard deviations; among the normal scores even a uniform law stays within its support."""

    deviation = float(np.std(prior.sample(4000, seed=0)))

    def moved(x: np.ndarray) -> np.ndarray:
        if shift == "of the draws":
            return x + 0.4 * deviation
        return prior.from_normal_scores(prior.normal_scores(x) + 0.4)

    draws = (prior.sample(ROWS, seed=seed) for seed in seeds(prior, SHIFTED_ROUNDS))
    rejected = rejections(prior, map(moved, draws))
    for name in ("mean", "ks", "chi2", "sliced_epps_pulley"):
        assert rejected[name] >= 0.95 * SHIFTED_ROUNDS, name


def seeds(prior: Prior, count: int) -> range:
    """Of their own for each prior: all draw from the same streams."""
    known = [*EVERY, *SPHERES]
    start = 1000 * (1 + (known.index(prior) if prior in known else len(known)))
    return range(start, start + count)


def rejections(prior: Prior, sets: Iterable[np.ndarray]) -> Counter[str]:
    """How many of the sets each of our simple tests rejects at α = .05; a few bundles of slices in turn."""
    found: Counter[str] = Counter()
    for seed, x in enumerate(sets):
        s, _ = finite_scores(x, prior)
        slices = epps_pulley.sliced(s, slices=12, seed=seed % 16)
        outcomes = simple_tests(s, slices, effort=LIGHT, seed=seed)
        found.update({name: int(outcome.reject) for name, outcome in outcomes})
    return found


@each_prior
def test_paging_temperature_and_seed(prior: Prior) -> None:
    whole = prior.sample(100, seed=5)
    np.testing.assert_array_equal(
        np.concatenate([prior.sample(40, seed=5), prior.sample(60, seed=5, offset=40)]), whole
    )
    assert not np.array_equal(prior.sample(100, seed=6), whole)
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        prior.sample(-1, seed=5)
    if not prior.has_temperature:
        with pytest.raises(ValueError, match="has no centre: it must be 1"):
            prior.sample(100, seed=5, temperature=0.5)
        return
    cooled = prior.sample(100, seed=5, temperature=0.5)
    np.testing.assert_allclose(prior.normal_scores(cooled), 0.5 * prior.normal_scores(whole), atol=1e-4)


@each_prior
def test_interpolation_follows_the_law(prior: Prior) -> None:
    pairs = 100 if prior.kind == FLOW else 300  # a flow takes thirty milliseconds for each
    a, b = prior.sample(pairs, seed=3), prior.sample(pairs, seed=4)
    points = np.stack([prior.interpolate(x, y, 3) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(points[:, 0], a)
    np.testing.assert_array_equal(points[:, 2], b)
    assert close_to_normal(prior.normal_scores(points[:, 1]))


FAR = {
    "laplace": (laws.LaplacePrior(loc=1, scale=2), lambda z: -np.abs(z) - math.log(4)),
    "exponential": (laws.ExponentialPrior(loc=1, scale=2), lambda z: -z - math.log(2)),
    "logistic": (laws.LogisticPrior(loc=1, scale=2), lambda z: -z - 2 * np.log1p(np.exp(-z)) - math.log(2)),
}


@pytest.mark.parametrize("name", FAR)
def test_tails_reach_beyond_what_a_double_holds_of_their_probability(name: str) -> None:
    law, log_density = FAR[name]
    prior = MarginalPrior(1, law)
    z = np.array([1.0, 40, 430, 460, 740, 746, 800, 5e4])
    x = (1 + 2 * z)[:, None]
    np.testing.assert_allclose(prior.log_prob(x), log_density(z), rtol=1e-12)
    s = prior.normal_scores(x)
    assert np.isfinite(s).all()
    np.testing.assert_allclose(prior.from_normal_scores(s), x, rtol=1e-12)
    around = prior.from_normal_scores(np.array([30 - 1e-9, 30 + 1e-9, -30 - 1e-9, -30 + 1e-9]))
    assert 0 < around[1] - around[0] < 1e-6
    if name == "exponential":
        assert (around[2:] == 1).all()
    else:
        assert 0 < around[3] - around[2] < 1e-6
        np.testing.assert_allclose(prior.from_normal_scores(-s) - 1, 1 - x, rtol=1e-12)
        np.testing.assert_allclose(prior.log_prob(2 - x), log_density(z), rtol=1e-12)


@pytest.mark.parametrize("df", [2.01, 3, 5, 20, 500, 1000])
def test_the_tails_of_a_t_law_reach_as_far(df: float) -> None:
    prior = MarginalPrior(1, laws.StudentTPrior(df=df))
    s = np.sort([*np.arange(-45, 45.1, 0.25), 19 + 1e-9])
    x = prior.from_normal_scores(s)
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(prior.from_normal_scores(-s), -x, rtol=1e-9)
    np.testing.assert_allclose(prior.normal_scores(x), s, rtol=1e-10, atol=1e-10)
    z = np.array([1e60, 1e100, 1e150])
    tail = df / 2 * (np.log(df) - 2 * np.log(z)) - np.log(df) - special.betaln(df / 2, 0.5)
    np.testing.assert_allclose(special.log_ndtr(prior.normal_scores(-z)), tail, rtol=1e-10)
    walk = prior.interpolate([1e30], [1.0], 33)
    assert np.isfinite(walk).all()
    assert (walk > 0).all()


@pytest.mark.parametrize(("a", "b"), [(2, 5), (5, 2), (1.5, 8), (10, 1.1), (30, 5)])
def test_the_tails_of_a_beta_law_go_on_to_its_edges(a: float, b: float) -> None:
    prior = MarginalPrior(1, laws.BetaPrior(a=a, b=b, loc=1, scale=2))
    s = np.arange(-37, 37.1, 0.25)
    x = prior.from_normal_scores(s)
    assert (np.diff(x) >= 0).all()
    assert ((x >= 1) & (x <= 3)).all()
    near = MarginalPrior(1, laws.BetaPrior(a=a, b=b))  # at 0 a double keeps the digits that one near 1 loses
    below = s[(s < -8) & (s > -36)]
    np.testing.assert_allclose(near.normal_scores(near.from_normal_scores(below)), below, rtol=1e-9)


@pytest.mark.parametrize("shapes", [(2, 5), (5, 2)])
def test_a_beta_law_has_finite_draws_at_every_temperature(shapes: tuple[float, float]) -> None:
    prior = MarginalPrior(2, laws.BetaPrior(a=shapes[0], b=shapes[1]))
    for temperature in (3.0, 4.0, 5.0, 100.0):
        draws = prior.sample(1000, seed=0, temperature=temperature)
        assert ((draws >= 0) & (draws <= 1)).all()


@pytest.mark.parametrize("name", ["laplace", "exponential", "logistic", "student_t"])
def test_draws_of_any_temperature_that_is_taken_are_finite(name: str) -> None:
    law = laws.StudentTPrior(df=5) if name == "student_t" else FAR[name][0]
    prior = MarginalPrior(2, law)
    far = np.array([-1, 1]) * special.ndtri(2.0**-54)
    for temperature in (3.0, 4.5, 10.0, 100.0):
        if refused := prior.temperature_refused(temperature):
            most = float(refused.rsplit(" ", 1)[1])
            assert 3 < most < 5
            assert temperature > most
            assert prior.temperature_refused(most) == ""
            with pytest.raises(ValueError, match="larger than float32 holds"):
                prior.sample(3, seed=0, temperature=temperature)
        else:
            assert np.isfinite(prior.from_normal_scores(far * temperature).astype(np.float32)).all()
            assert np.isfinite(prior.sample(1000, seed=0, temperature=temperature)).all()
    assert (prior.temperature_refused(100.0) != "") == (name == "student_t")


@pytest.mark.parametrize("prior", [GaussianPrior(2), UniformPrior(2), SpherePrior(3)], ids=str)
@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -0.5])
def test_a_temperature_is_a_finite_number_from_0_on(prior: Prior, temperature: float) -> None:
    with pytest.raises(ValueError, match=f"finite number from 0 on, not {temperature:g}"):
        prior.sample(3, seed=0, temperature=temperature)


def test_a_temperature_beyond_float32_is_refused_at_once() -> None:
    refused = GaussianPrior(2).temperature_refused(1e300)
    most = float(refused.rsplit(" ", 1)[1])
    assert most == pytest.approx(np.finfo(np.float32).max / 8.3, rel=0.01)
    assert np.isfinite(GaussianPrior(2).sample(1000, seed=0, temperature=most)).all()


@pytest.mark.parametrize(
    ("a", "b", "wrong"),
    [
        ([[1, 2]], [3, 4], r"a .* got \(1, 2\)"),
        ([1, 2], [3, 4, 5], r"b .* got \(3,\)"),
        ([0], 1, r"a .* \(1,\)"),
    ],
)
def test_the_ends_of_an_interpolation_are_points(a: Any, b: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        GaussianPrior(2).interpolate(a, b, 4)


@each_prior
def test_no_way_leads_to_what_is_no_number(prior: Prior) -> None:
    a, b = prior.sample(2, seed=0)
    b[0] = np.nan
    with pytest.raises(ValueError, match="b must be numbers, not NaN"):
        prior.interpolate(a, b, 3)


def test_interpolation_begins_and_ends_at_an_edge() -> None:
    """Its score is infinite, so the points between stay near it."""
    uniform = UniformPrior(2).interpolate([0, 1], [0.5, 0.5], 3)
    np.testing.assert_array_equal(uniform[[0, 2]], [[0, 1], [0.5, 0.5]])
    assert 0 < uniform[1, 0] < 1e-3
    for points in (
        MarginalPrior(2, laws.ExponentialPrior()).interpolate([0, 1], [1, 0], 3),
        MarginalPrior(2, laws.ExponentialPrior()).interpolate([740, 1], [1, 1], 4),
    ):
        assert np.isfinite(points).all()
        assert (points >= 0).all()


def test_laws_have_names() -> None:
    assert GaussianPrior(3).name == "N(0, I)"
    assert GaussianPrior(3, scale=math.sqrt(1.11)).name == "N(0, 1.11 I)"
    assert UniformPrior(12).name == "U([0, 1]¹²)"
    assert MarginalPrior(3, laws.StudentTPrior()).name == "StudentT(5) in every coordinate"
    assert MarginalPrior(3, laws.BetaPrior(loc=-1, scale=2)).name == "−1 + 2 Beta(2, 2) in every coordinate"
    mixture = MarginalPrior(3, laws.GaussianMixturePrior())
    assert mixture.name == "0.5 N(−2, 1) + 0.5 N(2, 1) in every coordinate"
    assert SpherePrior(3).name == "uniform on the sphere S²"
    assert fitted_arc().name == "the law of 600 given points, by a flow"


def test_outside_the_support() -> None:
    prior = UniformPrior(2)
    x = np.array([[0.5, 0.5], [1.5, 0.5], [0.0, 1.0]])
    assert prior.log_prob(x).tolist() == [0.0, -np.inf, 0.0]
    assert prior.p_value(x)[1] == 0
    assert np.isfinite(prior.normal_scores(x)[2]).all()


@each_prior
def test_what_is_no_number_has_no_score_and_spoils_no_other(prior: Prior) -> None:
    x = prior.sample(3, seed=0)
    spoilt = x.copy()
    spoilt[1, 0] = np.nan
    for scored in (prior.log_prob, prior.p_value, prior.outlyingness):
        assert np.isnan(scored(spoilt)).tolist() == [False, True, False]
        np.testing.assert_array_equal(scored(spoilt)[[0, 2]], scored(x)[[0, 2]])


def test_golden_draws() -> None:
    np.testing.assert_allclose(GaussianPrior(2).sample(3, seed=7, offset=1), GOLDEN_GAUSSIAN, rtol=3e-7)
    np.testing.assert_allclose(UniformPrior(2).sample(3, seed=7, offset=1), GOLDEN_UNIFORM, rtol=3e-7)


GOLDEN_GAUSSIAN = [
    [1.1362472772598267, 1.1428534984588623],
    [-1.3862015008926392, -0.17345961928367615],
    [-2.1942784786224365, 0.6731759905815125],
]
GOLDEN_UNIFORM = [
    [0.8720734715461731, 0.8734502792358398],
    [0.08284268528223038, 0.4311450719833374],
    [0.01410769671201706, 0.7495823502540588],
]


def _spec(**parts: object) -> tuple[TrainSpec, Resolved]:
    from nidim.capacity import resolve

    facts = DatasetFacts(name="x", n_train=1000, n_test=100, height=8, width=8, channels=1)
    spec = TrainSpec.model_validate({"dataset": "x", "encoder": {"kind": "conv", "dim": 2}, **parts}).filled(
        facts
    )
    return spec, resolve(spec, facts)[0]


@pytest.mark.parametrize(
    ("parts", "kind", "construction"),
    [
        ({}, "gaussian", None),
        ({"prior": {"kind": "uniform"}}, "uniform", "gaussian_cdf"),
        ({"noise": {"kind": "uniform", "epsilon": 0.1}}, "uniform", "sigmoid"),
        ({"noise": {"kind": "none"}, "prior": {"kind": "uniform"}}, "uniform", "gaussian_cdf"),
    ],
)
def test_the_law_of_a_spec(parts: dict, kind: str, construction: str | None) -> None:
    prior = make_prior(_spec(**parts)[0])
    assert (prior.kind, getattr(prior, "construction", None)) == (kind, construction)


@pytest.mark.parametrize(
    "parts",
    [
        {"noise": {"kind": "gaussian", "sigma": 0.5}},
        {"prior": {"kind": "uniform"}},
        {"prior": {"kind": "exponential"}},
        {"prior": {"kind": "gaussian_mixture"}},
        {"prior": {"kind": "sphere"}},
    ],
)
def test_noise_on_true_draws_gives_the_promised_law(parts: dict) -> None:
    spec, resolved = _spec(**parts)
    check_noise(make_prior(spec), resolved)


def test_noise_on_draws_of_a_flow_gives_its_law() -> None:
    check_noise(fitted_arc(), _spec(noise={"kind": "gaussian", "sigma": 0.5})[1])


def check_noise(prior: Prior, resolved: Resolved) -> None:
    draws = prior.sample(20_000, seed=1)
    noisy = add_noise(draws, prior, resolved, seed=2)
    with pytest.raises(ValueError, match="must have shape"):
        add_noise(np.ones((3, prior.dim + 1)), prior, resolved, seed=2)
    assert not np.allclose(noisy, draws, atol=0.01)
    assert close_to_normal(noisy_prior(prior, resolved).normal_scores(noisy))
    np.testing.assert_array_equal(noisy[5:9], add_noise(draws[5:9], prior, resolved, seed=2, offset=5))


def test_uniform_noise_is_bounded_and_none_changes_nothing() -> None:
    spec, resolved = _spec(noise={"kind": "uniform", "epsilon": 0.1})
    half = np.full((1000, 2), 0.5, np.float32)
    noisy = add_noise(half, make_prior(spec), resolved, seed=0)
    assert np.abs(noisy - 0.5).max() <= 0.1 + 1e-6
    assert stats.kstest((noisy.ravel() - 0.4) / 0.2, "uniform").pvalue > 0.01
    law = noisy_prior(make_prior(spec), resolved)
    assert isinstance(law, UniformPrior)
    assert (law.low, law.high) == (-0.1, 1.1)
    spec, resolved = _spec(noise={"kind": "none"})
    np.testing.assert_array_equal(add_noise(half, make_prior(spec), resolved, seed=0), half)


@pytest.mark.parametrize("prior", [*EVERY, *SPHERES, FLOW], indirect=True, ids=name_of)
@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (3, 7), (1, 3, 2)])
def test_another_shape_is_refused_instead_of_broadcast(prior: Prior, shape: tuple[int, ...]) -> None:
    for method in (prior.log_prob, prior.p_value, prior.outlyingness):
        with pytest.raises(ValueError, match=r"x must have shape \(n, \d+\), got"):
            method(np.full(shape, 0.5))
