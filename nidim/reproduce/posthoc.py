"""Maps that give a frozen encoder its law afterwards: rivals of their own, fitted to training embeddings only.

whitening    zero mean and identity covariance, symmetric (ZCA)
quantiles    each coordinate through its own empirical distribution function and Φ⁻¹
flow         a normalising flow from N(0, I), fitted by maximum likelihood, and its inverse
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import Embedded
from nidim.priors import fit_prior
from nidim.reproduce.table import Posthoc

KNOTS = 1000
"""Quantiles of each coordinate that are kept."""


def applied(kind: Posthoc | None, embedded: Embedded) -> Embedded:
    """Both splits through the map that is fitted to the training split."""
    if kind is None:
        return embedded
    maps = {"whitening": _whitened, "quantiles": _by_quantiles, "flow": _by_flow}
    train, test = (np.asarray(x, dtype=np.float32) for x in maps[kind](embedded))
    return dataclasses.replace(embedded, train=train, test=test)


def _whitened(embedded: Embedded) -> tuple[NDArray[np.floating], ...]:
    train = np.asarray(embedded.train, dtype=np.float64)
    mean = train.mean(0)
    values, vectors = np.linalg.eigh(np.cov(train, rowvar=False).reshape(train.shape[1], -1))
    root = vectors / np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    return tuple((x - mean) @ root for x in (train, embedded.test))


def _by_quantiles(embedded: Embedded) -> tuple[NDArray[np.floating], ...]:
    from sklearn.preprocessing import QuantileTransformer

    transform = QuantileTransformer(
        n_quantiles=min(KNOTS, len(embedded.train)),
        output_distribution="normal",
        subsample=None,
        random_state=0,
    ).fit(embedded.train)
    return transform.transform(embedded.train), transform.transform(embedded.test)


def _by_flow(embedded: Embedded) -> tuple[NDArray[np.floating], ...]:
    prior = fit_prior(embedded.train)
    return prior.normal_scores(embedded.train), prior.normal_scores(embedded.test)
