"""Conformal p-values: valid for any law and any n, also with few of the held-out values kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nidim.conformal import MOST_KEPT, Conformal, conformal
from nidim.priors import GaussianPrior, SpherePrior


def exact(held: np.ndarray, new: np.ndarray) -> np.ndarray:
    return (1 + (held[None] >= new[:, None]).sum(1)) / (len(held) + 1)


@given(st.integers(1, 6_000), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_never_below_the_exact_one_and_equal_where_it_matters(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    held, new = rng.chisquare(3, n), np.append(rng.chisquare(3, 200), [0.0, np.inf])
    if ties:
        held, new = held.round(), new.round()
    found, wanted = conformal(held).p_value(new), exact(held, new)
    assert len(conformal(held).squared) <= MOST_KEPT
    assert (found >= wanted - 1e-12).all()
    assert (found <= 1.01 * wanted + 1 / (n + 1)).all()
    small = wanted <= 200 / (n + 1)
    np.testing.assert_allclose(found[small], wanted[small])


def test_p_values_hold_for_an_encoder_that_misses_its_law() -> None:
    """The theoretical ones are wrong by a factor; these are below α in a share α of the images."""
    rng = np.random.default_rng(0)
    held, new = (np.square(rng.standard_t(4, (20_000, 8))).sum(1) for _ in range(2))
    p = conformal(held).p_value(new)
    for alpha in (0.001, 0.01, 0.1, 0.5):
        assert (p <= alpha).mean() == pytest.approx(alpha, abs=5 * (2 * alpha / 20_000) ** 0.5)
    theory = GaussianPrior(8).p_value(np.sqrt(new)[:, None] * np.eye(8)[0])
    assert (theory <= 0.001).mean() > 0.05


def test_one_held_out_image_is_enough_to_say_nothing() -> None:
    np.testing.assert_array_equal(conformal([2.0]).p_value([1.0, 3.0]), [1.0, 0.5])


def test_outside_the_support_nothing_is_more_unusual() -> None:
    prior = SpherePrior(3)
    held = prior.outlyingness(np.vstack([prior.sample(50, seed=0), [[2.0, 0, 0]]]))
    p = conformal(held).p_value(prior.outlyingness(np.array([[1.0, 0, 0], [3.0, 0, 0]])))
    np.testing.assert_allclose(p, [1.0, 2 / 52])


def test_it_is_stored_as_json_and_must_be_one() -> None:
    found = conformal(np.append(np.random.default_rng(0).chisquare(3, 3_000), np.inf))
    assert Conformal.model_validate_json(json.dumps(found.model_dump(), allow_nan=False)) == found
    for change in ({"n": 2}, {"squared": ()}, {"at_least": found.at_least[::-1]}):
        with pytest.raises(ValueError, match=r"values|greater"):
            Conformal.model_validate({**found.model_dump(), **change})
    with pytest.raises(ValueError, match="NaN"):
        conformal([1.0, np.nan])
    with pytest.raises(ValueError, match=r"shape \(n,\), got \(5, 1\)"):
        conformal(np.ones((5, 1)))
    with pytest.raises(ValueError, match="NaN"):
        found.p_value([np.nan])
