"""Maps that give a frozen encoder its law afterwards: rivals of their own, fitted to training embeddings only.

whitening    zero mean and identity covariance, symmetric (ZCA)
quantiles    each coordinate through its own empirical distribution function and Φ⁻¹
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import Embedded
from nidim.reproduce.table import Posthoc

KNOTS = 1000
"""Quantiles of each coordinate that are kept."""


def applied(kind: Posthoc | None, embedded: Embedded) -> Embedded:
    """Both splits through the map that is fitted to the training split."""
    if kind is None:
        return embedded
    mapped = _whitened(embedded) if kind == "whitening" else _by_quantiles(embedded)
    train, test = (np.asarray(x, dtype=np.float32) for x in mapped)
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
