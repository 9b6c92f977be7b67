"""Laws that are not Gaussian, trained on digits: what each promises is what its report tests.

sigmoid        f(X) in [0, 1]^d by a sigmoid, uniform noise: the promise is about the noisy embedding
phi            f(X) = Φ(Gaussian latent), Gaussian noise: the promise is about the clean embedding
exponential    f(X) = F⁻¹(Φ(Gaussian latent)): the same for a law of another shape
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from nidim.capacity import resolve
from nidim.data import load_builtin
from nidim.evaluate import Embedded, Report
from nidim.pipeline import embed_dataset, evaluate_fitted
from nidim.priors import MarginalPrior, UniformPrior, make_prior
from nidim.spec import TrainSpec, laws
from nidim.spec.channel import gaussian_capacity, uniform_capacity
from nidim.train import Fitted, fit

CONSTRUCTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {
        "epochs": 15,
        "normalization": {"kind": "sigmoid"},
        "noise": {"kind": "uniform", "epsilon": 0.1},
        "prior": {"kind": "uniform"},
    },
    "phi": {"noise": {"kind": "gaussian", "sigma": 0.3}, "prior": {"kind": "uniform"}},
    "exponential": {"noise": {"kind": "gaussian", "sigma": 0.3}, "prior": {"kind": "exponential"}},
}
CAPACITY = {
    "sigmoid": uniform_capacity(2, 0.1),
    "phi": gaussian_capacity(2, 0.3),
    "exponential": gaussian_capacity(2, 0.3),
}
HIGHEST = {"sigmoid": 1.0, "phi": 1.0, "exponential": math.inf}


@dataclasses.dataclass(frozen=True)
class Trained:
    fitted: Fitted
    embedded: Embedded
    report: Report


@pytest.fixture(scope="module")
def trained() -> dict[str, Trained]:
    dataset = load_builtin("digits", root=None)
    found = {}
    for name, values in CONSTRUCTIONS.items():
        spec = TrainSpec.model_validate(
            {
                "dataset": "digits",
                "encoder": {"kind": "conv", "dim": 2, "width": 8},
                "epochs": 8,
                "batch_size": 128,
                "precision": "float32",
                "evaluation": "quick",
                **values,
            }
        ).filled(dataset.facts)
        resolved = resolve(spec, dataset.facts)[0]
        fitted = fit(spec, resolved, dataset.train.images, heldout=dataset.test.images)
        embedded = embed_dataset(spec, fitted, dataset)
        found[name] = Trained(fitted, embedded, evaluate_fitted(spec, make_prior(spec), fitted, embedded))
    return found


def test_the_promise_of_the_sigmoid_is_about_the_noisy_embedding(trained: dict[str, Trained]) -> None:
    report = trained["sigmoid"].report
    assert report.tested == "noisy"
    assert report.promised is report.noisy
    assert report.noisy is not None
    assert report.noisy.law == "U([−0.1, 1.1]²)"
    assert report.noisy.outside == 0, "f(X) + Z cannot leave the support enlarged by ε"
    assert report.clean is not None, "the clean embedding is tested too, for comparison"
    assert (report.sigma, report.epsilon) == (None, 0.1)


@pytest.mark.parametrize(
    ("construction", "law"), [("phi", "U([0, 1]²)"), ("exponential", "Exponential in every coordinate")]
)
def test_the_promise_through_the_latent_is_about_the_clean_embedding(
    construction: str, law: str, trained: dict[str, Trained]
) -> None:
    report = trained[construction].report
    assert report.tested == "clean"
    assert report.promised is report.clean
    assert report.clean is not None
    assert report.clean.law == law
    assert report.certificate is not None
    assert report.certificate.law == law
    assert report.noisy is None
    assert (report.sigma, report.epsilon) == (0.3, None)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_clean_embeddings_lie_in_the_support_and_fill_it(
    construction: str, trained: dict[str, Trained]
) -> None:
    embedded = trained[construction].embedded
    for split in (embedded.train, embedded.test):
        assert split.min() >= 0
        assert split.max() <= HIGHEST[construction]
    assert (np.ptp(embedded.test, axis=0) > 0.8).all()


def test_the_same_latent_is_judged_alike_under_either_law(trained: dict[str, Trained]) -> None:
    """One training, two maps of its latent: scores, and all that is taken from them, agree; only the scale differs."""
    phi, other = trained["phi"], trained["exponential"]
    scores = UniformPrior(2).normal_scores(phi.embedded.test)
    exponential = MarginalPrior(2, laws.ExponentialPrior())
    np.testing.assert_allclose(exponential.normal_scores(other.embedded.test), scores, atol=1e-4)
    assert phi.report.hz_p == pytest.approx(other.report.hz_p, abs=1e-3)
    assert phi.report.kl_bound_nats == pytest.approx(other.report.kl_bound_nats, abs=1e-3)
    for one, entropy in ((phi.report.clean, 0.0), (other.report.clean, 1.0)):
        assert one is not None
        assert one.own_scale is not None
        assert 0.1 < one.own_scale.w1.ratio < 10
        assert one.own_scale.log_score_law_nats == pytest.approx(-entropy, abs=0.1)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_the_certificate_lies_between_what_its_images_can_show_and_the_capacity(
    construction: str, trained: dict[str, Trained]
) -> None:
    """Î lies in [0, log n], so KL ≤ C + moments − Î lies within [C − log n, C] + moments; training brings it down."""
    report = trained[construction].report
    found = report.certificate
    assert found is not None
    assert found.capacity_nats == pytest.approx(CAPACITY[construction])
    assert math.isfinite(found.kl_bound_upper95_nats)
    assert found.kl_bound_nats < found.kl_bound_upper95_nats
    assert found.n == report.n_heldout == 359
    highest = found.capacity_nats + found.moment_nats
    assert highest - math.log(found.n) <= found.kl_bound_nats <= highest
    assert found.kl_bound_upper95_nats < found.capacity_nats / 2
    assert report.kl_bound_upper95_nats == found.kl_bound_upper95_nats


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_the_trained_bound_grew_and_stays_below_the_capacity(
    construction: str, trained: dict[str, Trained]
) -> None:
    fitted = trained[construction].fitted
    assert fitted.mi_nats is not None
    assert fitted.resolved.capacity_nats == pytest.approx(CAPACITY[construction])
    assert 0.5 < fitted.mi_nats < CAPACITY[construction]
    assert fitted.history[-1]["mi_nats"] > 2 * fitted.history[0]["mi_nats"]
