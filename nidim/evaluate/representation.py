"""How good a representation looks without any label: from embeddings of several views of each of some images.

x_iv is the embedding of view v of image i, (m, v, d); u_iv = x_iv/‖x_iv‖.

    RankMe      e^H, H the entropy of σ_k / Σ_l σ_l, the singular values of all embeddings (mv, d), not centred
    LiDAR       e^H, H the entropy of λ_k / Σ_l λ_l, the eigenvalues of S_w^{−1/2} S_b S_w^{−1/2}; S_b: covariance of
                the images' means (over m − 1); S_w: that of views about their image's mean (over m(v − 1)) + 1e−4·I
    alignment   mean ‖u_iv − u_iw‖² over pairs of views of an image
    uniformity  log of the mean e^{−2‖u_iv − u_jv‖²} over pairs of images, for each v, averaged over v before the log

Both ranks lie between 1 and d (LiDAR's also below m). They are compared between encoders of the same d. A law without
mean 0 lowers RankMe: its mean is the first direction.

References: Garrido et al. 2023, arXiv 2210.02885; Thilak et al. 2024, arXiv 2312.04000; Wang & Isola 2020,
arXiv 2005.10242.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate.moments import effective_rank_of
from nidim.evaluate.pairs import gaussian_sum
from nidim.evaluate.report import Representation

Floats = NDArray[np.float64]

RIDGE = 1e-4
TEMPERATURE = 2.0


def representation(views: NDArray[np.floating]) -> Representation:
    """All four of embeddings (m, v, d) of v views of m images. Ask :func:`why_not` first."""
    m, v, d = views.shape
    x = views.astype(np.float64)
    norms = np.linalg.norm(x, axis=2, keepdims=True)
    unit = x / np.where(norms > 0, norms, 1.0)
    return Representation(
        rankme=rankme(x.reshape(m * v, d)),
        lidar=lidar(x),
        alignment=alignment(unit),
        uniformity=uniformity(unit),
        n=m,
        views=v,
    )


def rankme(x: Floats) -> float:
    """RankMe of embeddings ``x`` (n, d); 0 where all are zero."""
    values = np.linalg.eigvalsh(x.T @ x)
    return effective_rank_of(np.sqrt(np.maximum(values, 0.0)))


def lidar(x: Floats) -> float:
    """LiDAR of embeddings ``x`` (m, v, d), m and v at least 2; 0 where all images have the same mean."""
    m, v, d = x.shape
    means = x.mean(axis=1)
    between = means - means.mean(axis=0)
    within = (x - means[:, None]).reshape(m * v, d)
    values, vectors = np.linalg.eigh(within.T @ within / (m * (v - 1)) + RIDGE * np.eye(d))
    whitened = between @ (vectors / np.sqrt(values))
    return effective_rank_of(np.linalg.eigvalsh(whitened.T @ whitened / (m - 1)))


def alignment(unit: Floats) -> float:
    """Mean squared distance between two views of an image, for unit vectors (m, v, d); v at least 2."""
    v = unit.shape[1]
    squared = np.square(unit.sum(axis=1)).sum(axis=1)
    own = np.square(unit).sum(axis=(1, 2))
    return max(float(2 * (v * own - squared).mean()) / (v * (v - 1)), 0.0)


def uniformity(unit: Floats) -> float:
    """Log of the mean Gaussian potential over pairs of images, for unit vectors (m, v, d); m at least 2."""
    m, v, _ = unit.shape
    total = 0.0
    for k in range(v):
        view = np.ascontiguousarray(unit[:, k])
        total += gaussian_sum(view, 2 * TEMPERATURE)
    return math.log(max(total / v - m, np.finfo(np.float64).tiny) / (m * (m - 1)))


def why_not(views: NDArray[np.floating]) -> str | None:
    """Why there is nothing to measure, or None."""
    m, v, _ = views.shape
    if m < 2 or v < 2:
        return f"{v} views of {m} held-out images; two of each are needed"
    return None
