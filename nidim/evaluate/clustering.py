"""How classes lie in the held-out embeddings, and whether k-means finds them without labels.

Silhouette on a random subsample (all pairs), Davies–Bouldin and Calinski–Harabasz on all; k-means with as many
centres as classes, compared with the classes by normalised mutual information and adjusted Rand index.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Clustering

SILHOUETTE_ROWS = 5000
_STARTS = 4


def clustering(x: NDArray[np.floating], labels: NDArray[np.int64], *, seed: int = 0) -> Clustering:
    """All scores of held-out embeddings ``x`` (n, d) with ``labels`` (n,). Ask :func:`why_not` first."""
    rows = generator(seed, "silhouette rows").permutation(len(x))[:SILHOUETTE_ROWS]
    if why_not(x[rows], labels[rows]):
        rows = np.arange(len(x))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct points than classes: a score of 0
        found = KMeans(len(np.unique(labels)), n_init=_STARTS, random_state=seed).fit_predict(x)
    return Clustering(
        silhouette=float(metrics.silhouette_score(x[rows], labels[rows])),
        davies_bouldin=float(metrics.davies_bouldin_score(x, labels)),
        calinski_harabasz=float(metrics.calinski_harabasz_score(x, labels)),
        kmeans_nmi=float(metrics.normalized_mutual_info_score(labels, found)),
        kmeans_ari=float(metrics.adjusted_rand_score(labels, found)),
        n=len(x),
        n_silhouette=len(rows),
    )


def why_not(x: NDArray[np.floating], labels: NDArray[np.int64]) -> str | None:
    """Why there is nothing to score, or None."""
    classes = len(np.unique(labels))
    if not 2 <= classes < len(x):
        return f"clustering scores need 2 to n − 1 classes; there are {classes} in {len(x)} embeddings"
    return None
