"""Both constructions of the uniform law, trained on digits: what each promises is what its report tests.

sigmoid    f(X) in [0, 1]^d by a sigmoid, uniform noise: the promise is about the noisy embedding
phi        f(X) = Φ(Gaussian latent), Gaussian noise: the promise is about the clean embedding
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from nidim.capacity import gaussian_capacity, resolve, uniform_capacity
from nidim.data import load_builtin
from nidim.evaluate import Embedded, Report
from nidim.pipeline import embed_dataset, evaluate_fitted
from nidim.spec import TrainSpec
from nidim.train import Fitted, fit

CONSTRUCTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {
        "normalization": {"kind": "sigmoid"},
        "noise": {"kind": "uniform", "epsilon": 0.1},
        "prior": {"kind": "uniform"},
    },
    "phi": {"noise": {"kind": "gaussian", "sigma": 0.3}, "prior": {"kind": "uniform"}},
}
CAPACITY = {"sigmoid": uniform_capacity(2, 0.1), "phi": gaussian_capacity(2, 0.3)}


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
                "epochs": 15,
                "batch_size": 128,
                "precision": "float32",
                "evaluation": "quick",
                **values,
            }
        ).filled(dataset.facts)
        resolved = resolve(spec, dataset.facts)[0]
        fitted = fit(spec, resolved, dataset.train.images, heldout=dataset.test.images)
        embedded = embed_dataset(fitted, dataset)
        found[name] = Trained(fitted, embedded, evaluate_fitted(spec, fitted, embedded))
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


def test_the_promise_through_phi_is_about_the_clean_embedding(trained: dict[str, Trained]) -> None:
    report = trained["phi"].report
    assert report.tested == "clean"
    assert report.promised is report.clean
    assert report.clean is not None
    assert report.clean.law == "U([0, 1]²)"
    assert report.noisy is None
    assert (report.sigma, report.epsilon) == (0.3, None)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_clean_embeddings_lie_in_the_unit_square_and_fill_it(
    construction: str, trained: dict[str, Trained]
) -> None:
    embedded = trained[construction].embedded
    for split in (embedded.train, embedded.test):
        assert split.min() >= 0
        assert split.max() <= 1
    assert (np.ptp(embedded.test, axis=0) > 0.8).all()


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
