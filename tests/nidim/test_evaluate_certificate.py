"""The certificate: the true KL where it is known, coverage of its upper end, blocks equal to the whole."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, special

from nidim.evaluate import certificate as certificates
from nidim.evaluate.certificate import gaussian_certificate, uniform_certificate
from nidim.spec.channel import gaussian_capacity, uniform_capacity

pytestmark = pytest.mark.usefixtures("no_floor")

MU = np.array([0.3, -0.2])
COVARIANCE = np.array([[1.3, 0.4], [0.4, 0.8]])


def true_kl(mu: np.ndarray, covariance: np.ndarray, sigma: float) -> float:
    """KL( N(μ, S + σ²I) ‖ N(0, (1+σ²)I) ), nats."""
    d, target = len(mu), 1 + sigma**2
    noisy = covariance + sigma**2 * np.eye(d)
    volume = d * math.log(target) - np.linalg.slogdet(noisy)[1]
    return float(0.5 * (np.trace(noisy) / target + mu @ mu / target - d + volume))


def gaussian(n: int, mu: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    draws = np.random.default_rng([seed, 77]).standard_normal((n, len(mu)))
    return mu + draws @ np.linalg.cholesky(covariance).T


def test_it_is_the_true_kl_of_a_gaussian_with_wrong_moments():
    certified = gaussian_certificate(gaussian(6000, MU, COVARIANCE, 0), sigma=0.7, law="")
    expected = true_kl(MU, COVARIANCE, 0.7)
    assert certified.capacity_nats < 2
    assert certified.kl_bound_nats == pytest.approx(expected, abs=4 * certified.kl_bound_se_nats)
    assert certified.kl_bound_se_nats < 0.02


def disc_kl(sigma: float) -> float:
    """KL of (uniform on the disc of radius 2) + σN(0, I_2) from N(0, (1+σ²)I), by quadrature."""

    def integrand(r: float) -> float:
        p = special.chndtr(4 / sigma**2, 2, (r / sigma) ** 2) / (4 * math.pi)
        target = math.exp(-(r**2) / (2 * (1 + sigma**2))) / (2 * math.pi * (1 + sigma**2))
        return 2 * math.pi * r * p * math.log(p / target) if p > 0 else 0.0

    return integrate.quad(integrand, 0, 2 + 8 * sigma, points=[2.0], limit=200)[0]


def test_at_a_small_sigma_it_is_a_little_above_the_true_kl():
    """d=2, σ=.1, 10,000 images: C is 4.6 nats of log n = 9.2, and the bound is tight."""
    rng = np.random.default_rng(0)
    radius, angle = 2 * np.sqrt(rng.uniform(size=10_000)), rng.uniform(0, 2 * math.pi, 10_000)
    f = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    c = gaussian_certificate(f, sigma=0.1, law="")
    assert disc_kl(0.1) == pytest.approx(0.225, abs=0.001)
    assert c.kl_bound_nats == pytest.approx(disc_kl(0.1) + 0.005, abs=3 * c.kl_bound_se_nats)
    assert c.kl_bound_se_nats < 0.012


def test_few_candidates_make_it_larger_never_smaller():
    """InfoNCE bounds the information from below whatever n is; a shift with a true KL of .259 shows it."""
    mu = np.full(2, math.sqrt(0.259 * 1.01))
    assert true_kl(mu, np.eye(2), 0.1) == pytest.approx(0.259)

    def mean(n: int, rounds: int) -> float:
        found = (
            gaussian_certificate(gaussian(n, mu, np.eye(2), s), sigma=0.1, law="") for s in range(rounds)
        )
        return float(np.mean([c.kl_bound_nats for c in found]))

    assert 0.25 < mean(4000, 4) < mean(500, 20)


def test_the_information_of_the_matched_channel_is_its_capacity():
    c = gaussian_certificate(gaussian(6000, np.zeros(2), np.eye(2), 1), sigma=0.6, law="")
    assert c.information_nats == pytest.approx(gaussian_capacity(2, 0.6), abs=0.06)
    assert c.kl_bound_nats == pytest.approx(c.capacity_nats + c.moment_nats - c.information_nats)
    assert c.ceiling_nats == pytest.approx(math.log(6000))


@pytest.mark.parametrize(("n", "d", "sigma"), [(64, 1, 1.5), (64, 2, 3.0)])
def test_the_upper_end_covers_where_nothing_else_is_on_the_safe_side(n: int, d: int, sigma: float):
    mu, covariance = MU[:d], COVARIANCE[:d, :d]
    expected = true_kl(mu, covariance, sigma)
    found = [
        gaussian_certificate(gaussian(n, mu, covariance, s), sigma=sigma, law="", seed=s) for s in range(500)
    ]
    covered = sum(c.kl_bound_upper95_nats >= expected for c in found)
    assert 450 <= covered <= 490  # 465 to 475 expected, sd 5


def test_the_upper_end_covers_the_truth_nineteen_times_in_twenty():
    expected = true_kl(MU, COVARIANCE, 0.7)
    found = [
        gaussian_certificate(gaussian(256, MU, COVARIANCE, s), sigma=0.7, law="", seed=s) for s in range(300)
    ]
    covered = sum(c.kl_bound_upper95_nats >= expected for c in found)
    assert covered >= 270  # 285 expected, sd 3.8
    assert covered <= 299
    spread = np.std([c.kl_bound_nats for c in found])
    assert np.mean([c.kl_bound_se_nats for c in found]) == pytest.approx(spread, rel=0.15)


def test_a_matched_law_gives_negative_estimates_that_are_flagged_and_kept():
    found = [
        gaussian_certificate(gaussian(256, np.zeros(2), np.eye(2), s), sigma=0.7, law="") for s in range(20)
    ]
    negative = [c for c in found if c.kl_bound_nats < 0]
    assert negative
    assert all(c.kl_flag == "negative" for c in negative)
    assert all(c.kl_flag == "ok" for c in found if c.kl_bound_nats >= 0)


def test_far_above_log_n_it_is_out_of_reach_and_never_near_zero():
    c = gaussian_certificate(np.random.default_rng(0).standard_normal((400, 64)), sigma=0.5, law="")
    assert c.kl_flag == "out_of_reach"
    assert c.information_nats <= c.ceiling_nats + 1e-9
    assert c.best_reachable_nats == pytest.approx(gaussian_capacity(64, 0.5) - math.log(400))
    assert c.kl_bound_nats > c.best_reachable_nats - 3


def test_infonce_by_blocks_is_the_dense_formula():
    rng = np.random.default_rng(0)
    f, sigma = rng.standard_normal((200, 5)), 0.4
    v = f + sigma * rng.standard_normal(f.shape)
    edges = np.linspace(0, 200, 9).astype(np.int64)
    partition = certificates.gaussian_partition(v, f, sigma, edges)
    scores = -np.square(v[:, None] - f[None]).sum(axis=2) / (2 * sigma**2)
    dense = math.log(200) + np.mean(np.diagonal(scores) - special.logsumexp(scores, axis=1))
    assert math.log(200) - np.log(partition.sum(axis=1)).mean() == pytest.approx(dense, rel=1e-10)
    blocks = [
        np.exp(scores[:, a:b] - np.diagonal(scores)[:, None]).sum(axis=1)
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(partition, np.stack(blocks, axis=1), rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_neighbours_within_epsilon_by_blocks_are_the_dense_count(d):
    rng = np.random.default_rng(0)
    f, epsilon = rng.uniform(size=(200, d)), 0.3
    v = f + rng.uniform(-epsilon, epsilon, f.shape)
    edges = np.linspace(0, 200, 9).astype(np.int64)
    near = np.abs(v[:, None] - f[None]).max(axis=2) <= epsilon
    dense = np.stack([near[:, a:b].sum(axis=1) for a, b in itertools.pairwise(edges)], axis=1)
    np.testing.assert_array_equal(certificates.uniform_partition(v, f, epsilon, edges), dense)


def test_the_jackknife_leaves_a_block_out_as_anchors_and_as_candidates():
    rng = np.random.default_rng(0)
    n, edges = 128, np.linspace(0, 128, 9).astype(np.int64)
    partition, offset = rng.exponential(size=(n, 8)) + 0.1, rng.standard_normal(n)
    values = []
    for b in range(8):
        kept = np.r_[0 : edges[b], edges[b + 1] : n]
        sums = np.delete(partition, b, axis=1)[kept].sum(axis=1)
        values.append(offset[kept].mean() - (math.log(len(kept)) - np.log(sums).mean()))
    expected = math.sqrt(7 / 8 * np.square(np.array(values) - np.mean(values)).sum())
    assert certificates.jackknife(partition, offset, edges).se == pytest.approx(expected, rel=1e-9)


def test_the_order_of_the_images_does_not_matter_to_the_interval():
    f = gaussian(2000, MU, COVARIANCE, 0)
    f = f[np.argsort(f[:, 0])]  # as a set sorted by class would be
    c = gaussian_certificate(f, sigma=0.7, law="")
    assert c.kl_bound_se_nats < 0.035
    assert c.kl_bound_nats == pytest.approx(true_kl(MU, COVARIANCE, 0.7), abs=4 * c.kl_bound_se_nats)


def test_uniform_embeddings_stay_below_capacity_by_the_known_amount():
    """Exact U[0,1] under noise reaches ε − log 2ε a dimension, for 2ε <= 1."""
    epsilon, d = 0.1, 2
    f = np.random.default_rng(0).uniform(size=(6000, d))
    c = uniform_certificate(f, epsilon=epsilon, law="")
    expected = uniform_capacity(d, epsilon) - d * (epsilon - math.log(2 * epsilon))
    assert c.kl_bound_nats == pytest.approx(expected, abs=0.03)
    assert c.kl_bound_upper95_nats > expected


def test_the_grid_fills_the_noisy_uniform_law():
    """At ε=.1 the optimum is a grid of six values: its noisy law is exactly U([−ε, 1+ε]^d)."""
    f = np.random.default_rng(0).integers(0, 6, size=(6000, 2)) / 5
    c = uniform_certificate(f, epsilon=0.1, law="")
    assert abs(c.kl_bound_nats) < 0.01
    assert f.var() == pytest.approx((1 + 4 * 0.1) / 12, rel=0.03)


def test_the_own_candidate_counts_whatever_the_rounding():
    f = np.random.default_rng(0).uniform(size=(100, 2)).astype(np.float32).astype(np.float64)
    edges = np.array([0, 50, 100])
    beyond = f + 0.1 * (1 + 1e-9)
    assert (certificates.uniform_partition(beyond, f, 0.1, edges).sum(axis=1) >= 1).all()


def test_it_is_deterministic_and_needs_enough_images():
    f = gaussian(200, MU, COVARIANCE, 0)
    assert gaussian_certificate(f, sigma=0.5, law="") == gaussian_certificate(f, sigma=0.5, law="")
    assert gaussian_certificate(f, sigma=0.5, law="") != gaussian_certificate(f, sigma=0.5, law="", seed=1)
    with pytest.raises(ValueError, match="at least 64"):
        gaussian_certificate(f[:63], sigma=0.5, law="")
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        uniform_certificate(f, epsilon=0.1, law="")


@pytest.mark.parametrize("factor", [1e6, 1e9, 1e11])
def test_embeddings_far_apart_show_all_that_a_sample_can(factor: float):
    f = factor * gaussian(200, np.zeros(2), np.eye(2), 0)
    c = gaussian_certificate(f, sigma=0.5, law="")
    assert c.ceiling_nats - 3 < c.information_nats <= c.ceiling_nats + 1e-9
    assert c.kl_bound_nats == pytest.approx(c.moment_nats)


@pytest.mark.parametrize(
    ("f", "level", "said"),
    [
        (np.full((100, 2), np.nan), 0.5, "f: .* finite numbers"),
        (np.full((100, 2), np.inf), 0.5, "f: .* finite numbers"),
        (np.zeros(100), 0.5, r"f: .* \(n, d\), got shape \(100,\)"),
        (np.zeros((100, 2)), 0.0, "above 0, got 0"),
        (np.zeros((100, 2)), -1.0, "above 0, got -1"),
        (np.zeros((100, 2)), math.nan, "above 0, got nan"),
    ],
    ids=["NaN", "infinite", "one axis", "no noise", "less than none", "noise of NaN"],
)
def test_what_cannot_be_certified_is_refused(f: np.ndarray, level: float, said: str):
    with pytest.raises(ValueError, match=said):
        gaussian_certificate(f, sigma=level, law="")
    with pytest.raises(ValueError, match=said):
        uniform_certificate(f, epsilon=level, law="")
