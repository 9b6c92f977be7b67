"""Capacity formulas against Monte Carlo, σ "auto", and the warnings of the physics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from nidim import capacity
from nidim.spec import DatasetFacts, TrainSpec, channel
from nidim.spec.defaults import default_epsilon
from nidim.spec.matching import GaussianNoise, NoNoise, UniformNoise


def facts(n_train: int = 55_000, n_test: int = 10_000) -> DatasetFacts:
    return DatasetFacts(name="x", n_train=n_train, n_test=n_test, height=28, width=28, channels=1)


def resolved(n_train: int = 55_000, n_test: int = 10_000, **parts: object):
    spec = TrainSpec.model_validate({"dataset": "x", **parts})
    return capacity.resolve(spec.filled(facts(n_train, n_test)), facts(n_train, n_test))


def test_without_noise_nothing_bounds_the_information() -> None:
    assert channel.gaussian_capacity(2, 0) == channel.uniform_capacity(2, 0) == math.inf


@pytest.mark.parametrize(("dim", "sigma"), [(1, 0.5), (3, 1.0), (2, 1 / 3)])
def test_gaussian_capacity_is_the_information_of_the_channel(dim: int, sigma: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((400_000, dim))
    v = y + sigma * rng.standard_normal(y.shape)
    log_channel = -(np.square(v - y) / (2 * sigma**2)).sum(1) - dim * math.log(sigma)
    log_marginal = -(np.square(v) / (2 * (1 + sigma**2))).sum(1) - dim / 2 * math.log(1 + sigma**2)
    assert (log_channel - log_marginal).mean() == pytest.approx(
        channel.gaussian_capacity(dim, sigma), rel=0.01
    )


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.05])
def test_uniform_capacity_is_reached_by_a_grid(epsilon: float) -> None:
    """1/(2ε) whole: equally likely points at distance 2ε fill [−ε, 1+ε]; their information is log of their number."""
    points = 1 + round(1 / (2 * epsilon))
    assert channel.uniform_capacity(1, epsilon) == pytest.approx(math.log(points))
    grid = np.linspace(0, 1, points)
    assert grid.var() == pytest.approx((1 + 4 * epsilon) / 12)


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.02])
def test_an_exactly_uniform_embedding_stays_below_capacity(epsilon: float) -> None:
    """I = ε − log 2ε per dimension for f ~ U[0, 1]: the entropy of the trapezoid minus that of the noise."""
    v = np.linspace(-epsilon, 1 + epsilon, 2_000_001)
    density = (np.minimum(v + epsilon, 1) - np.maximum(v - epsilon, 0)).clip(1e-300) / (2 * epsilon)
    entropy = -(density * np.log(density)).mean() * (1 + 2 * epsilon)
    information = entropy - math.log(2 * epsilon)
    assert information == pytest.approx(epsilon - math.log(2 * epsilon), abs=1e-4)
    assert information < channel.uniform_capacity(1, epsilon)


def test_large_sigma_carries_little() -> None:
    for sigma in (1.2417, 2.0, 5.0):
        assert channel.gaussian_capacity(64, sigma) <= 0.25 * 64


@given(dim=st.integers(1, 512), nats=st.floats(0.01, 50))
def test_inverses(dim: int, nats: float) -> None:
    assert channel.gaussian_capacity(dim, channel.sigma_for(dim, nats)) == pytest.approx(nats, rel=1e-6)
    assert channel.uniform_capacity(dim, channel.epsilon_for(dim, nats)) == pytest.approx(nats, rel=1e-6)


@given(dim=st.integers(1, 512), p=st.floats(1e-3, 0.999))
def test_mixing_by_p_keeps_the_variance_and_carries_minus_d_log_p(dim: int, p: float) -> None:
    """√(1−p²)·f + p·n is f + σn in other units, σ = p/√(1−p²): the form of the authors' table."""
    sigma = p / math.sqrt(1 - p**2)
    assert channel.gaussian_capacity(dim, sigma) == pytest.approx(-dim * math.log(p), rel=1e-9)


@pytest.mark.parametrize(
    ("exponent", "sigma", "nats"),
    [
        (1 / 8, 1.134, 0.576),
        (1 / 4, 0.680, 1.151),
        (1 / 2, 0.333, 2.303),
        (3 / 4, 0.181, 3.454),
        (1, 0.1005, 4.605),
    ],
)
def test_the_published_capacities(exponent: float, sigma: float, nats: float) -> None:
    """p = 10^−exponent, d = 2; METHOD.md section 5."""
    p = 10**-exponent
    assert p / math.sqrt(1 - p**2) == pytest.approx(sigma, abs=6e-4)
    assert channel.gaussian_capacity(2, p / math.sqrt(1 - p**2)) == pytest.approx(nats, abs=6e-4)


@given(dim=st.integers(1, 1024), n=st.integers(2, 100_000), batch=st.integers(2, 4096))
def test_auto_sigma_fills_eight_tenths_of_log_n_or_says_that_it_is_clipped(
    dim: int, n: int, batch: int
) -> None:
    sigma, clipped = capacity.auto_sigma(dim, n, batch)
    wanted = 0.8 * math.log(max(2, min(n, batch)))
    if clipped:
        assert sigma in capacity.SIGMA_RANGE
    else:
        assert channel.gaussian_capacity(dim, sigma) == pytest.approx(wanted)


def test_no_sample_bound_exceeds_log_n() -> None:
    """Even the exact critic of a very informative channel shows at most log n."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((500, 64))
    v = y + 0.1 * rng.standard_normal(y.shape)
    scores = -np.square(v[:, None] - y[None]).sum(2) / 0.02
    shown = math.log(500) + (scores.diagonal() - logsumexp(scores, axis=1)).mean()
    assert shown <= math.log(500) + 1e-9
    assert channel.gaussian_capacity(64, 0.1) > 100


@pytest.mark.parametrize("n_test", [64, 150, 359, 1000, 10_000])
@pytest.mark.parametrize("dim", [2, 8, 16])
def test_a_default_sigma_is_one_that_the_held_out_images_can_certify(dim: int, n_test: int) -> None:
    for n_train in (1438, 20_000):  # in one stage, and in two
        found, advice = resolved(n_train, n_test, encoder={"kind": "conv", "dim": dim})
        assert found.sigma is not None
        assert found.sigma <= 0.75
        reach = channel.sigma_for(dim, channel.certifiable(dim, n_test)) <= 0.75
        assert [each.code for each in advice] == ([] if reach else ["certificate_out_of_reach"])
    few, _ = resolved(1438, 63, encoder={"kind": "conv", "dim": 16})
    assert few.sigma == 0.5, "there is no certificate to be had"


@pytest.mark.parametrize("n_test", [64, 359, 10_000])
@pytest.mark.parametrize("dim", [2, 8, 16])
def test_a_default_epsilon_is_one_that_the_held_out_images_can_certify(dim: int, n_test: int) -> None:
    sigmoid = {
        "prior": {"kind": "uniform"},
        "normalization": {"kind": "sigmoid"},
        "encoder": {"kind": "conv", "dim": dim},
    }
    found, advice = resolved(1438, n_test, **sigmoid)
    assert found.epsilon is not None
    assert found.epsilon <= 0.5
    reach = channel.epsilon_for(dim, channel.certifiable(dim, n_test)) <= 0.5
    assert ("certificate_out_of_reach" in [each.code for each in advice]) == (not reach)
    few, _ = resolved(1438, 63, **sigmoid)
    assert few.epsilon == default_epsilon(dim), "there is no certificate to be had"


def advised(n_test: int, **spec: object) -> str:
    """What the warning advises."""
    _, (advice,) = resolved(1438, n_test, **spec)
    assert advice.code == "certificate_out_of_reach"
    return advice.detail.split("is possible. ")[1]


@pytest.mark.parametrize(("dim", "n_test"), [(8, 64), (16, 359), (16, 10_000), (20, 359)])
def test_a_sigma_that_is_advised_fits_as_it_stands(dim: int, n_test: int) -> None:
    given = {"kind": "gaussian", "sigma": 0.2}
    words = advised(n_test, noise=given, encoder={"kind": "conv", "dim": dim})
    fits = float(words.removeprefix("Use sigma at least ").rstrip("."))
    _, nothing = resolved(1438, n_test, noise={**given, "sigma": fits}, encoder={"kind": "conv", "dim": dim})
    assert nothing == []


@pytest.mark.parametrize("dim", [4, 8])
def test_an_epsilon_that_is_advised_fits_as_it_stands(dim: int) -> None:
    words = advised(359, noise={"kind": "uniform", "epsilon": 0.02}, encoder={"kind": "conv", "dim": dim})
    fits = float(words.removeprefix("Use epsilon at least ").rstrip("."))
    _, nothing = resolved(
        1438, 359, noise={"kind": "uniform", "epsilon": fits}, encoder={"kind": "conv", "dim": dim}
    )
    assert nothing == []


@pytest.mark.parametrize(("kind", "name"), [("gaussian", "sigma"), ("uniform", "epsilon")])
def test_no_noise_is_advised_that_would_drown_the_embedding(kind: str, name: str) -> None:
    words = advised(359, noise={"kind": kind, name: 0.4}, encoder={"kind": "conv", "dim": 64})
    assert words.startswith("Hold out more images or use fewer dimensions")


def test_resolve_clips_the_batch_and_stores_sigma() -> None:
    found, advice = resolved(n_train=100, n_test=20, batch_size=512)
    assert found.batch_size == 100
    assert found.sigma is not None
    assert "batch_clipped" in {a.code for a in advice}


def test_capacity_of_each_noise() -> None:
    assert capacity.capacity_nats(NoNoise(), 4) is None
    assert capacity.capacity_nats(UniformNoise(epsilon=0.5), 4) == pytest.approx(4 * math.log(2))
    assert capacity.capacity_nats(GaussianNoise(sigma=1.0), 4) == pytest.approx(2 * math.log(2))
    with pytest.raises(ValueError, match="auto"):
        capacity.capacity_nats(GaussianNoise(), 4)


@pytest.mark.parametrize(
    ("size", "height", "width", "told"),
    [(None, 224, 300, True), (None, 300, 65, True), (None, 64, 300, False), (64, 224, 300, False)],
)
def test_images_are_not_shrunk_in_silence(size: int | None, height: int, width: int, told: bool) -> None:
    known = DatasetFacts(name="x", n_train=1000, n_test=100, height=height, width=width, channels=3)
    spec = TrainSpec.model_validate({"dataset": "x", "image_size": size})
    advice = capacity.shrunk(spec, spec.filled(known), known)
    assert [each.code for each in advice] == (["images_shrunk"] if told else [])
    assert all(f"{min(height, width)} pixels; the encoder sees 64" in each.detail for each in advice)
