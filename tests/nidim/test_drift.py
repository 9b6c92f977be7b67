"""The drift monitor: bounded features, a tolerance that covers, false alarms as promised, sums that merge."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nidim.drift import Monitor, State, Tally, Tolerance, absorb, bets, calibrate, tally, watched
from nidim.drift.features import MOST_PAIRS, features, layout
from nidim.drift.state import STAKE
from nidim.drift.tolerance import Region
from nidim.priors import GaussianPrior, Prior, SpherePrior, UniformPrior
from tests.blocks import session
from tests.nidim.samples import fitted_arc

D = 4
PRIOR = GaussianPrior(D)


def healthy(n: int, *, seed: int, d: int = D) -> np.ndarray:
    """Embeddings of an encoder that misses its prior by a little: means, variances, one correlation."""
    x = np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(0.9, 1.1, d) + np.linspace(-0.1, 0.1, d)
    x[:, 0] += 0.15 * x[:, 1]
    return x


def runs(sample, tolerance, *, streams: int, n: int, block: int, most: float) -> np.ndarray:
    """The images until an alarm of each stream; inf: none among n."""
    found = np.full(streams, np.inf)
    for i in range(streams):
        values, state = features(sample(n, seed=1000 + i)), State.empty(tolerance.dim)
        for start in range(0, n, block):
            seen = tally(values[start : start + block], bets(state, tolerance))
            state = absorb(state, seen, weight=seen.n)
            if state.log_detection >= math.log(most):
                found[i] = state.n
                break
    return found


@pytest.mark.parametrize(
    "make",
    [lambda: PRIOR, lambda: UniformPrior(3), lambda: SpherePrior(5), fitted_arc],
    ids=["gaussian", "uniform", "sphere", "flow"],
)
def test_features_have_mean_zero_and_variance_one_under_every_law(make: Callable[[], Prior]) -> None:
    prior = make()
    values = watched(prior, prior.sample(20_000, seed=1))
    columns = layout(prior.dim)
    assert values.shape == (20_000, columns.size)
    assert (values >= columns.low - 1e-9).all()
    assert (values <= columns.high + 1e-9).all()
    exact = prior.kind != "flow"  # its draws are float32 and go there and back
    np.testing.assert_allclose(values.mean(0), 0, atol=4.5 / np.sqrt(20_000) if exact else 0.05)
    np.testing.assert_allclose(values.std(0), 1, atol=0.08)


def test_columns_of_one_and_of_many_coordinates() -> None:
    assert set(layout(1).groups) == {"location", "scale", "radius"}
    assert features(np.zeros((2, 1))).shape == (2, 6)
    assert layout(32).pairs.shape[1] == MOST_PAIRS == 32 * 31 // 2
    many = layout(512).pairs
    assert many.shape[1] == MOST_PAIRS
    assert (many[1] - many[0] == 1).all()


def test_infinite_scores_are_at_the_bounds_and_rows_without_a_value_are_skipped() -> None:
    values = features(np.array([[np.inf, -np.inf]]))
    assert np.isfinite(values).all()
    x = np.array([[0.5, 0.5], [np.nan, 0.5], [2.0, 0.5]])
    assert len(watched(UniformPrior(2), x)) == 2
    with pytest.raises(ValueError, match="NaN"):
        features(x)
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        watched(UniformPrior(2), np.zeros((3, 3)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_region_is_what_its_support_function_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    region = Region("location", slice(0, 5), rng.normal(size=5), rng.uniform(0, 2))
    point, direction = 3 * rng.normal(size=5), rng.normal(size=5)
    away = region.beyond(point)
    nearest = point - away
    assert direction @ nearest <= region.support(direction) + 1e-9
    assert away @ nearest == pytest.approx(
        region.support(away), abs=1e-9
    )  # it is the nearest of a convex set
    np.testing.assert_allclose(region.beyond(nearest), 0, atol=1e-9)


def test_the_tolerance_covers_the_truth_as_often_as_it_says() -> None:
    truth = features(healthy(400_000, seed=0)).mean(0)
    misses = 0
    for seed in range(300):
        regions = calibrate(healthy(300, seed=1 + seed)).regions
        misses += any(np.linalg.norm(truth[r.columns] - r.mean) > r.radius for r in regions)
    assert misses <= 28  # 15 are allowed; 28 or more of 300 at 5 % have probability .001
    with pytest.raises(ValueError, match="100"):
        calibrate(healthy(99, seed=0))
    with pytest.raises(ValueError, match=r"\(n, d\), got shape \(200,\)"):
        calibrate(np.zeros(200))


def test_a_tolerance_is_stored_as_json_and_must_fit_its_dimension() -> None:
    tolerance = calibrate(healthy(200, seed=0))
    text = tolerance.model_dump_json()
    assert Tolerance.model_validate_json(text) == tolerance
    values = json.loads(text)
    with pytest.raises(ValueError, match="numbers of features"):
        Tolerance.model_validate({**values, "dim": D + 1})


@pytest.mark.parametrize("case", ["exact prior", "within the tolerance", "at its very edge"])
def test_false_alarms_are_no_oftener_than_promised(case: str) -> None:
    """P(alarm within n images) ≤ n/A = .2 in every case; the third one lies on the boundary of the null."""
    tolerance = calibrate(healthy(2_000, seed=0))
    samples = {
        "exact prior": lambda n, seed: PRIOR.sample(n, seed=seed).astype(float),
        "within the tolerance": healthy,
        "at its very edge": healthy,
    }
    if case == "at its very edge":  # no slack: what is tolerated ends where the truth is
        truth = features(healthy(400_000, seed=0)).mean(0)
        groups = {r.name: {"mean": tuple(truth[r.columns]), "radius": 0.0} for r in tolerance.regions}
        tolerance = Tolerance(dim=D, n=400_000, confidence=0.95, groups=groups)
    found = runs(samples[case], tolerance, streams=100, n=2_000, block=100, most=10_000)
    assert np.isfinite(found).mean() <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 100)


def test_without_a_tolerance_a_real_encoder_is_drift() -> None:
    found = runs(healthy, Tolerance.exact(D), streams=5, n=20_000, block=100, most=10_000)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "drifted",
    [
        lambda x, rng: x + np.eye(D)[0] / 2,
        lambda x, rng: x + 0.25,
        lambda x, rng: x * 0.7,
        lambda x, rng: np.where(rng.random((len(x), 1)) < 0.1, 5 * x, x),
        lambda x, rng: np.column_stack([x[:, 0], 0.6 * x[:, 0] + 0.8 * x[:, 1], x[:, 2:]]),
        lambda x, rng: np.where(rng.random((len(x), 1)) < 0.5, x, np.abs(x)),
    ],
    ids=["one mean", "all means", "variance", "outliers", "correlation", "half-normal half"],
)
def test_drifts_of_every_kind_are_found_soon(drifted) -> None:
    tolerance = calibrate(healthy(5_000, seed=0))

    def sample(n: int, *, seed: int) -> np.ndarray:
        return drifted(healthy(n, seed=seed), np.random.default_rng(seed))

    found = runs(sample, tolerance, streams=10, n=6_000, block=50, most=1e6)
    assert np.median(found) < 3_000


def test_a_change_after_a_long_healthy_time_is_found_as_soon_as_an_early_one() -> None:
    tolerance = calibrate(healthy(5_000, seed=0))
    monitor = Monitor(PRIOR, tolerance)
    assert not monitor.update(healthy(50_000, seed=1)).alarm
    late = monitor.update(healthy(3_000, seed=2) + 0.3)
    assert late.alarm
    assert late.n == 53_000
    again = monitor.update(healthy(500, seed=3))
    assert again.alarm  # it stays until the reset
    monitor.reset()
    assert monitor.verdict == monitor.update(np.empty((0, D)))
    assert (monitor.verdict.alarm, monitor.verdict.n, monitor.verdict.p_value) == (False, 0, 1.0)


def test_no_image_can_cost_more_than_the_stake() -> None:
    tolerance, state = calibrate(healthy(500, seed=0)), State.empty(D)
    state = absorb(state, tally(features(healthy(500, seed=1) + 1), bets(state, tolerance)), weight=1)
    placed = bets(state, tolerance)
    assert np.abs(placed.directions).max() > 0
    extremes = np.vstack([features(np.full((1, D), v)) for v in (-np.inf, 0.0, np.inf)])
    assert tally(extremes[:1], placed).log_wealth.min() >= math.log(1 - STAKE) - 1e-9
    assert np.isfinite(tally(extremes, placed).log_wealth).all()


TALLIES = st.builds(
    lambda n, seed: tally(features(healthy(n, seed=seed)), PLACED), st.integers(0, 40), st.integers(0, 999)
)
PLACED = bets(
    absorb(State.empty(D), Tally(9, features(healthy(9, seed=5) + 1).sum(0), np.zeros(12)), weight=1),
    Tolerance.exact(D),
)


def same(a: Tally, b: Tally) -> None:
    assert a.n == b.n
    np.testing.assert_allclose(a.sums, b.sums, atol=1e-9)
    np.testing.assert_allclose(a.log_wealth, b.log_wealth, atol=1e-9)


@given(TALLIES, TALLIES, TALLIES)
@settings(max_examples=40, deadline=None)
def test_tallies_add_up_in_any_order(a: Tally, b: Tally, c: Tally) -> None:
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(a + tally(np.empty((0, layout(D).size)), PLACED), a)


@given(st.integers(0, 60), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_tally_of_parts_is_the_tally_of_the_whole(cut: int, seed: int) -> None:
    values = features(healthy(60, seed=seed))
    same(tally(values[:cut], PLACED) + tally(values[cut:], PLACED), tally(values, PLACED))


def test_a_state_goes_on_from_its_json() -> None:
    tolerance = calibrate(healthy(500, seed=0))
    one = Monitor(PRIOR, tolerance)
    one.update(healthy(300, seed=1))
    stored = json.loads(json.dumps(one.state.to_json(), allow_nan=False))
    two = Monitor(PRIOR, tolerance, state=stored)
    for monitor in (one, two):
        monitor.update(healthy(300, seed=2) + 0.5)
    assert one.state.to_json() == two.state.to_json()
    fresh = State.empty(D)
    assert (
        State.from_json(json.loads(json.dumps(fresh.to_json(), allow_nan=False))).to_json() == fresh.to_json()
    )


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"sums": [1.0]}, {"log_detector": "x"}, {"dim": 3}, {"n": None}]
)
def test_what_is_no_state_is_refused(change) -> None:
    with pytest.raises(ValueError, match="state"):
        State.from_json({**State.empty(D).to_json(), **change})


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="d = 4"):
        Monitor(PRIOR, Tolerance.exact(3))
    with pytest.raises(ValueError, match="more than 1"):
        Monitor(PRIOR, images_between_false_alarms=1)


def test_the_summary_names_the_coordinate_that_moved() -> None:
    monitor = Monitor(PRIOR, calibrate(healthy(5_000, seed=0)))
    assert monitor.summary.worst is None
    monitor.update(healthy(3_000, seed=1) - [0, 0, 0.6, 0])
    found = monitor.summary
    assert found.worst is not None
    assert (found.worst.coordinate, found.worst.statistic) == (2, "location")
    assert found.worst.z < -10
    assert found.groups["location"].beyond > 0.3
    assert found.groups["correlation"].beyond < 0.1


def test_the_program_of_the_page_alarms_where_embeddings_moved_and_only_there() -> None:
    heldout = healthy(2000, seed=1, d=16)
    names = {"heldout": heldout, "embeddings": healthy(2000, seed=2, d=16)}
    page = session("docs/drift.md", "drift-session")
    exec(page, names)
    assert not names["verdict"].alarm
    kept = json.loads(json.dumps(names["monitor"].state.to_json()))
    assert Monitor(names["prior"], names["tolerance"], state=kept).state.n == 2000
    report = {"calibration": {"tolerance": names["tolerance"].model_dump(mode="json")}}
    stored = page.replace("calibrate(prior.normal_scores(heldout))  # or ", "")
    assert stored != page
    moved = {"Tolerance": Tolerance, "report": report, "embeddings": names["embeddings"] + 0.5}
    exec(stored, moved)
    assert moved["tolerance"] == names["tolerance"]
    assert moved["verdict"].alarm
