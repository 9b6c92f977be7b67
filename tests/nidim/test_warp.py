"""The map from the latent to the embedding is that of the prior, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nidim.priors import GaussianPrior, MarginalPrior, Prior, SpherePrior, UniformPrior
from nidim.spec import laws
from nidim.warp import REACH, build_warp
from tests.nidim.samples import fitted_arc

LAWS = [
    laws.LaplacePrior(),
    laws.StudentTPrior(df=2.1),
    laws.LogisticPrior(loc=2, scale=0.1),
    laws.BetaPrior(a=1, b=30),
    laws.ExponentialPrior(),
    laws.GaussianMixturePrior(
        components=(laws.Component(weight=0.02, mean=-3), laws.Component(weight=0.98, mean=3))
    ),
    laws.GaussianMixturePrior(
        components=(laws.Component(), laws.Component(mean=5), laws.Component(scale=0.05))
    ),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.title)
def test_it_is_the_inverse_of_the_normal_scores(law: laws.MarginalLaw) -> None:
    prior = MarginalPrior(2, law)
    latent = np.random.default_rng(0).uniform(-6, 6, (5000, 2)).astype(np.float32)
    found = warped(prior, latent).astype(np.float64)
    exact = prior.from_normal_scores(latent)
    rounding = 3e-6 * prior.slope(latent) + 3e-7 * np.abs(exact)
    assert (np.abs(found - exact) <= rounding + 1e-30).all()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.title)
def test_it_is_increasing_and_finite_wherever_an_image_may_fall(law: laws.MarginalLaw) -> None:
    latent = np.linspace(-20, 20, 4001, dtype=np.float32)[:, None]
    found = warped(MarginalPrior(1, law), latent)[:, 0]
    assert np.isfinite(found).all()
    rounding = 1e-6 * np.abs(found).max() if law.kind == "beta" else 1e-6 * (1 + np.abs(found[1:]))
    assert (np.diff(found) >= -rounding).all()
    assert found[latent[:, 0] > REACH].min() >= found[latent[:, 0] < REACH].max() - 1e-6


def test_a_law_without_a_table_has_no_parameters() -> None:
    latent = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(warped(GaussianPrior(3), latent), latent)
    sigmoid = UniformPrior(3, construction="sigmoid")
    np.testing.assert_array_equal(warped(sigmoid, latent), latent)
    np.testing.assert_allclose(
        warped(UniformPrior(3), latent), UniformPrior(3).from_normal_scores(latent), atol=1e-6
    )
    assert not build_warp(UniformPrior(3)).state_dict()


@pytest.mark.parametrize("prior", [SpherePrior(2), SpherePrior(16), "flow"], ids=str)
def test_a_map_of_dependent_coordinates_is_that_of_its_law(prior: Prior | str) -> None:
    law = fitted_arc() if isinstance(prior, str) else prior
    latent = np.random.default_rng(0).standard_normal((5000, law.dim)).astype(np.float32)
    np.testing.assert_allclose(warped(law, latent), law.from_normal_scores(latent), atol=1e-5)
    np.testing.assert_allclose(warped(law, 2 * latent), law.from_normal_scores(2 * latent), atol=1e-4)
    assert np.isfinite(warped(law, 1e3 * latent)).all()
    assert np.isfinite(warped(law, 0 * latent)).all()
    assert not any(value.requires_grad for value in build_warp(law).parameters())


def warped(prior: Prior, latent: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return build_warp(prior)(torch.from_numpy(latent)).numpy()
