"""How good generated images are, and the *prior gap*: what is lost by feeding a generator from the prior.

    gap = FD(real, images of prior draws) / FD(real, images of held-out embeddings)

Held-out images, up to 5,000 of them, are halved: one half is real, the embeddings of the other are fed, with the same
noise and as many draws of the prior; then the halves change places. Below 1.05 the prior may stand for the data.
Finitely many images add the same to both distances, about what the halves show of each other (``floor``; not of
training images, which the classifier of the features knows too well), which pulls the gap towards 1; ``above_floor`` is
the gap without it. FD is the Fréchet distance between the features of a small classifier that was trained on the
dataset itself (Heusel et al. 2017, with features that fit the images); without labels, between embeddings. Precision
and recall by 3 nearest neighbours: Kynkäänniemi et al. 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.neighbors import NearestNeighbors

from nidim.generate.features import Features
from nidim.generate.report import GeneratorReport, Quality, above_floor

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

K = 3
MOST_IMAGES = {"full": 2500, "quick": 500}
MANIFOLD_IMAGES = 2000
DRAWS = {"full": 2, "quick": 1}
"""Seeds of draws that figures are averaged over; with the second the halves have changed places."""


def frechet_distance(x: Floats, y: Floats) -> float:
    """Between Gaussians with the moments of x (n, k) and y (m, k): ‖μ − ν‖² + tr(A + B − 2 (A B)^½).

    Raises ValueError for fewer than two rows, which have no covariance.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a Fréchet distance needs two rows of each, got {len(x)} and {len(y)}")
    a, b = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y))
    # tr (A B)^½ is the sum of the roots of the eigenvalues of A^½ B A^½, which is symmetric
    values, vectors = linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    crossed = np.sqrt(np.clip(linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    apart = float(np.square(x.mean(0) - y.mean(0)).sum())
    return max(apart + float(np.trace(a) + np.trace(b) - 2 * crossed), 0.0)


def precision_and_recall(real: Floats, made: Floats, *, k: int = K) -> tuple[float, float]:
    """Share of ``made`` within the k-neighbour balls of ``real``, and the other way round."""
    return _covered(made, by=real, k=k), _covered(real, by=made, k=k)


def _covered(points: Floats, *, by: Floats, k: int) -> float:
    k = min(k, len(by) - 1)
    radii = NearestNeighbors(n_neighbors=k + 1).fit(by).kneighbors(by)[0][:, -1]
    inside = np.zeros(len(points), dtype=bool)
    for low in range(0, len(points), 256):
        part = points[low : low + 256]
        inside[low : low + 256] = (_distances(part, by) <= radii).any(axis=1)
    return float(inside.mean())


def _distances(x: Floats, y: Floats) -> Floats:
    squared = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return np.sqrt(np.maximum(squared, 0))


def class_distance(shares: Floats, others: Floats) -> float:
    """Total variation between two distributions over classes."""
    return float(np.abs(shares - others).sum() / 2)


@dataclasses.dataclass(frozen=True)
class Judge:
    """What generated images are held against: features of real held-out images, and how far as many others are."""

    features: Features
    real: Floats
    shares: Floats | None
    floor: float

    def quality(self, made: Images, labels: NDArray[np.int64] | None = None) -> Quality:
        """The figures of generated images; ``labels``: the classes of the images whose embeddings they came from."""
        found, classes = self.features.of(made)
        rows = slice(0, MANIFOLD_IMAGES)
        precision, recall = precision_and_recall(self.real[rows], found[rows])
        balance = agreement = None
        if classes is not None and self.shares is not None:
            shares = np.bincount(classes, minlength=len(self.shares)) / len(classes)
            balance = class_distance(shares, self.shares)
            agreement = None if labels is None else float((classes == labels).mean())
        return Quality(
            frechet_distance=frechet_distance(self.real, found),
            precision=precision,
            recall=recall,
            class_distance=balance,
            class_agreement=agreement,
        )


def make_judge(features: Features, real: Images, others: Images) -> Judge:
    """``floor``: the distance between real held-out images and as many others."""
    found, classes = features.of(real)
    shares = None
    if classes is not None and features.classes:
        shares = np.bincount(classes, minlength=features.classes) / len(classes)
    return Judge(features, found, shares, frechet_distance(found, features.of(others)[0]))


def halves(n: int, *, level: str, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of held-out images in two halves, equally many: ones that are real, ones whose embeddings are fed."""
    order = np.random.default_rng([seed, 2]).permutation(n)
    size = min(n // 2, MOST_IMAGES[level])
    return np.sort(order[:size]), np.sort(order[size : 2 * size])


def mean_quality(found: list[Quality]) -> Quality:
    """Figure by figure."""

    def mean(name: str) -> float | None:
        values = [getattr(quality, name) for quality in found]
        return None if None in values else float(np.mean(values))

    return Quality.model_validate({name: mean(name) for name in Quality.model_fields})


@dataclasses.dataclass(frozen=True)
class Side:
    """One half of the held-out images, held against images that the other half is fed for.

    ``of_embeddings(seed)`` makes an image of each embedding of the other half, whose classes ``labels`` are.
    """

    judge: Judge
    of_embeddings: Callable[[int], Images]
    labels: NDArray[np.int64] | None


def measure(
    sides: Sequence[Side],
    *,
    of_prior: Callable[[int], Images],
    progress: Callable[[float], None] | None = None,
) -> GeneratorReport:
    """The report; ``of_prior(seed)`` makes as many images as a side has real ones. Each side has a seed of its own."""
    prior, heldout = [], []
    for seed, side in enumerate(sides):
        prior.append(side.judge.quality(of_prior(seed)))
        heldout.append(side.judge.quality(side.of_embeddings(seed), side.labels))
        if progress:
            progress((seed + 1) / len(sides))
    mean_prior, mean_heldout = mean_quality(prior), mean_quality(heldout)
    gaps = [p.frechet_distance / h.frechet_distance for p, h in zip(prior, heldout, strict=True)]
    features = sides[0].judge.features
    floor = float(np.mean([side.judge.floor for side in sides]))
    return GeneratorReport(
        images=len(sides[0].judge.real),
        draws=len(sides),
        features=features.kind,
        classifier_accuracy=features.accuracy,
        floor=floor,
        prior=mean_prior,
        heldout=mean_heldout,
        prior_gap=mean_prior.frechet_distance / mean_heldout.frechet_distance,
        prior_gap_sd=float(np.std(gaps, ddof=1)) if len(gaps) > 1 else None,
        prior_gap_above_floor=above_floor(mean_prior.frechet_distance, mean_heldout.frechet_distance, floor),
    )
