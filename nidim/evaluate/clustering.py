"""How classes lie in the held-out embeddings, and whether k-means finds them without labels.

Silhouette on a random subsample (all pairs), Davies–Bouldin and Calinski–Harabasz on all; k-means with as many
centres as classes, fitted to a random subsample, compared with the classes on all by normalised mutual information
and adjusted Rand index. Up to ``MAX_CLASSES`` classes: the work and the memory grow with them.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context, metrics
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Clustering

SILHOUETTE_ROWS, KMEANS_ROWS, MAX_CLASSES = 5000, 20_000, 1000
_WORKING_MB = 64
_STARTS = 4


def clustering(x: NDArray[np.floating], labels: NDArray[np.int64], *, seed: int = 0) -> Clustering:
    """All scores of held-out embeddings ``x`` (n, d) with ``labels`` (n,). Ask :func:`why_not` first."""
    order = generator(seed, "silhouette rows").permutation(len(x))
    rows = silhouette_rows(labels, order)
    fitted = x if len(x) <= KMEANS_ROWS else x[order[:KMEANS_ROWS]]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct points than classes: a score of 0
        kmeans = KMeans(len(np.unique(labels)), n_init=_STARTS, random_state=seed).fit(fitted)
    found = kmeans.labels_ if fitted is x else kmeans.predict(x)
    with config_context(working_memory=_WORKING_MB):
        silhouette = metrics.silhouette_score(x[rows], labels[rows])
    return Clustering(
        silhouette=float(silhouette),
        davies_bouldin=float(metrics.davies_bouldin_score(x, labels)),
        calinski_harabasz=float(metrics.calinski_harabasz_score(x, labels)),
        kmeans_nmi=float(metrics.normalized_mutual_info_score(labels, found)),
        kmeans_ari=float(metrics.adjusted_rand_score(labels, found)),
        n=len(x),
        n_silhouette=len(rows),
        n_kmeans=len(fitted),
    )


def silhouette_rows(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first rows of ``order`` (n,) whose silhouette is defined; where one class fills them, half from the rest."""
    rows = order[:SILHOUETTE_ROWS]
    if len(np.unique(labels[rows])) > 1:
        return rows
    same = labels[order] == labels[order[0]]
    half = SILHOUETTE_ROWS // 2
    return np.concatenate([order[same][:half], order[~same][:half]])


def why_not(x: NDArray[np.floating], labels: NDArray[np.int64]) -> str | None:
    """Why there is nothing to score, or None."""
    classes = len(np.unique(labels))
    if not 2 <= classes < len(x):
        return f"clustering scores need 2 to n − 1 classes; there are {classes} in {len(x)} embeddings"
    if classes > MAX_CLASSES:
        return f"clustering scores are for up to {MAX_CLASSES:,} classes; there are {classes:,}"
    return None
