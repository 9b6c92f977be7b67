"""Maps that give a frozen encoder its law afterwards: rivals of their own, fitted to training embeddings only.

whitening    zero mean and identity covariance, symmetric (ZCA)
quantiles    each coordinate through its own empirical distribution function and Φ⁻¹
flow         a normalising flow from N(0, I), fitted by maximum likelihood, and its inverse
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import Embedded
from nidim.priors import fit_prior
from nidim.reproduce.table import Posthoc

Floats = NDArray[np.floating]

KNOTS = 1000
"""Quantiles of each coordinate that are kept."""


def applied(kind: Posthoc | None, embedded: Embedded) -> Embedded:
    """Both splits, and the views, through the map that is fitted to the training split."""
    if kind is None:
        return embedded
    maps = {"whitening": _whitening, "quantiles": _quantiles, "flow": _flow}
    mapped = maps[kind](embedded.train)
    train, test = (mapped(x).astype(np.float32) for x in (embedded.train, embedded.test))
    views = embedded.views
    if views is not None:
        views = mapped(views.reshape(-1, views.shape[2])).astype(np.float32).reshape(views.shape)
    return dataclasses.replace(embedded, train=train, test=test, views=views)


def _whitening(fitted_to: Floats) -> Callable[[Floats], Floats]:
    train = np.asarray(fitted_to, dtype=np.float64)
    mean = train.mean(0)
    values, vectors = np.linalg.eigh(np.cov(train, rowvar=False).reshape(train.shape[1], -1))
    root = vectors / np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    return lambda x: (x - mean) @ root


def _quantiles(fitted_to: Floats) -> Callable[[Floats], Floats]:
    from sklearn.preprocessing import QuantileTransformer

    transform = QuantileTransformer(
        n_quantiles=min(KNOTS, len(fitted_to)),
        output_distribution="normal",
        subsample=None,
        random_state=0,
    )
    return transform.fit(fitted_to).transform


def _flow(fitted_to: Floats) -> Callable[[Floats], Floats]:
    return fit_prior(fitted_to).normal_scores
