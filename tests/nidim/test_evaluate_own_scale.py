"""The match in the law's own scale: SciPy's distance, true draws at the floor, and tails that scores do not see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nidim.evaluate.own_scale import own_scale
from nidim.evaluate.report import OwnScale
from nidim.priors import GaussianPrior, MarginalPrior, Prior, SpherePrior, UniformPrior
from nidim.spec import laws
from tests.nidim.samples import fitted_arc

STUDENT = MarginalPrior(2, laws.StudentTPrior(df=3))
PRIORS = [
    GaussianPrior(3),
    UniformPrior(3),
    STUDENT,
    MarginalPrior(2, laws.ExponentialPrior()),
    MarginalPrior(2, laws.GaussianMixturePrior()),
    SpherePrior(3),
    "flow",
]
N = 4000


def ratios(found: OwnScale) -> dict[str, float]:
    return {name: getattr(found, name).ratio for name in ("w1", "quantile_low", "quantile_high")}


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: getattr(prior, "kind", prior))
def test_true_draws_are_at_the_floor_and_stretched_ones_are_not(prior: Prior | str) -> None:
    prior = fitted_arc() if isinstance(prior, str) else prior
    draws = prior.sample(N, seed=3).astype(np.float64)
    found = own_scale(draws, prior, sets=8)
    assert found.w1.ratio == pytest.approx(1, abs=0.5)
    assert found.log_score_nats == pytest.approx(found.log_score_law_nats, abs=0.05)
    assert found.quantile_low.value < 0.25
    assert found.quantile_high.value < 0.25
    median = prior.quantiles([0.5])
    wide = own_scale(median + 1.5 * (draws - median), prior, sets=8)
    assert wide.w1.ratio > 5
    assert wide.quantile_high.value == pytest.approx(0.5, abs=0.25)
    if prior.kind in ("uniform", "exponential", "sphere"):
        assert wide.log_score_nats is None
    else:
        assert wide.log_score_nats < found.log_score_nats - 0.05


def test_wasserstein_is_scipys_and_the_entropy_is_the_laws() -> None:
    draws = STUDENT.sample(N, seed=1).astype(np.float64)
    law = stats.t(3).ppf((np.arange(N) + 0.5) / N)
    found = own_scale(draws, STUDENT, sets=8)
    expected = np.mean([stats.wasserstein_distance(column, law) for column in draws.T])
    assert found.w1.value == pytest.approx(expected)
    assert found.log_score_law_nats == pytest.approx(-stats.t(3).entropy(), abs=0.02)


def test_tails_that_no_score_sees() -> None:
    """Draws of a law with lighter tails, everything inside the same: the outermost quantiles tell."""
    scores = np.random.default_rng(0).standard_normal((N, 2))
    clipped = STUDENT.from_normal_scores(np.clip(scores, -2.5, 2.5))
    found = own_scale(clipped, STUDENT, sets=8)
    assert min(found.quantile_low.value, found.quantile_high.value) > 0.25
    assert all(ratio > 1.5 for ratio in list(ratios(found).values())[1:])
