"""Outliers by the known prior: ``python -m benchmarks.outliers BUNDLE --datasets-dir DIR --photographs ZIP`` writes
results/outliers/<name>.json and .md.

AUROC of held-out images against images of other kinds, by ‖s‖² of the prior alone, beside detectors that keep or fit
the training embeddings: the distance to the k-th nearest of them, and Mahalanobis with their mean and covariance. And
how often images as held out are called outliers at p ≤ α by the theoretical and by the conformal p-value, which is
calibrated on one half of the held-out images and tried on the other.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import KDTree

from benchmarks.altered import (
    blurred,
    gray_photographs,
    noisy,
    once,
    provenance,
    rotated,
    static,
    table,
    write,
)
from nidim import bundle
from nidim.conformal import conformal
from nidim.data import load_builtin

RESULTS = Path(__file__).parent / "results" / "outliers"
NEIGHBOURS, KEPT = 10, 20_000
LEVELS = (0.001, 0.01, 0.05)
Rows = NDArray[np.float32]
Score = Callable[[Rows], NDArray[np.float64]]


def detectors(prior: Any, train: Rows) -> dict[str, tuple[Score, str]]:
    """Name -> score, large for an outlier, and what it keeps of the training set."""
    few = train[np.random.default_rng(0).permutation(len(train))[:KEPT]].astype(np.float64)
    tree = KDTree(few)
    mean, inverse = train.mean(axis=0), np.linalg.inv(np.cov(train, rowvar=False))

    def mahalanobis(x: Rows) -> NDArray[np.float64]:
        away = x - mean
        return np.einsum("ni,ij,nj->n", away, inverse, away)

    d = train.shape[1]
    return {
        "prior": (prior.outlyingness, "nothing"),
        "prior, two-sided": (lambda x: -_two_sided(prior.p_value(x)), "nothing"),
        "Mahalanobis": (mahalanobis, f"{d} means, {d * (d + 1) // 2} covariances"),
        f"{NEIGHBOURS}-NN": (lambda x: tree.query(x, k=NEIGHBOURS)[0][:, -1], f"{len(few):,} embeddings"),
    }


def _two_sided(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(p, 1 - p)


def auroc(healthy: NDArray[np.float64], outliers: NDArray[np.float64]) -> tuple[float, float]:
    """P(outlier scores higher), ties half; and its standard error (Hanley & McNeil 1982)."""
    ranks = stats.rankdata(np.concatenate([healthy, outliers]))[len(healthy) :]
    n, m = len(healthy), len(outliers)
    a = float((ranks.sum() - m * (m + 1) / 2) / (n * m))
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (n * m)
    return a, math.sqrt(max(variance, 0.0))


def main() -> None:
    """Embed, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--datasets-dir", type=Path)
    parser.add_argument("--photographs", type=Path, required=True, help="a .zip with images under test/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="mnist-d16")
    given = parser.parse_args()
    encoder = bundle.load(given.bundle)
    size = encoder.resolved.image_size
    data = load_builtin(encoder.spec.dataset, root=given.datasets_dir, allow_downloads=False, image_size=size)
    order = np.random.default_rng(given.seed).permutation(len(data.test.images))
    half = len(order) // 2
    images = np.asarray(data.test.images)
    live, held = images[order[:half]], images[order[half:]]
    kinds = {
        "photographs (CIFAR-10 in gray)": gray_photographs(given.photographs, size, half),
        "digits rotated by 90°": rotated(live, 90),
        "digits rotated by 30°": rotated(live, 30),
        "digits upside down in brightness": 255 - live,
        "digits blurred, 2 pixels": blurred(live, 2),
        "digits with noise, 0.3": noisy(live, 0.3),
        "uniform noise": static(live),
    }
    embed = once({}, encoder)
    healthy, known = embed("live", live), embed("held", held)
    others = {name: embed(name, x) for name, x in kinds.items()}
    scores = detectors(encoder.prior, embed("train", np.asarray(data.train.images)))
    rows: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in kinds}
    for detector, (score, _) in scores.items():
        base = score(healthy)
        for name, x in others.items():
            rows[name][detector] = auroc(base, score(x))
    ranks = conformal(encoder.prior.outlyingness(known))
    prior = encoder.prior
    rates = {
        name: {
            kind: {f"{a:g}": float((p <= a).mean()) for a in LEVELS}
            for kind, p in (
                ("theoretical", prior.p_value(x)),
                ("conformal", ranks.p_value(prior.outlyingness(x))),
            )
        }
        for name, x in {"held-out digits": healthy, **others}.items()
    }
    found = {
        "dataset": data.name,
        "dim": prior.dim,
        "n": half,
        "auroc": {
            name: {k: {"auroc": a, "se": se} for k, (a, se) in row.items()} for name, row in rows.items()
        },
        "rejected": rates,
        "provenance": provenance(encoder, given.seed),
    }
    write(RESULTS, given.name, found, page(found, {name: kept for name, (_, kept) in scores.items()}))


def page(found: dict[str, Any], kept: dict[str, str]) -> str:
    """The tables in Markdown."""
    areas = [[name, *(f"{row[k]['auroc']:.3f}" for k in kept)] for name, row in found["auroc"].items()]
    worst = max(cell["se"] for row in found["auroc"].values() for cell in row.values())
    shares = [
        [
            name,
            *(f"{100 * row[kind][f'{a:g}']:.1f} %" for kind in ("theoretical", "conformal") for a in LEVELS),
        ]
        for name, row in found["rejected"].items()
    ]
    heads = [f"{kind}, p ≤ {a:g}" for kind in ("theoretical", "conformal") for a in LEVELS]
    return TEXT.format(
        **found,
        worst=worst,
        areas=table(
            ["outliers", *kept],
            [*areas, ["*what is kept of the training set*", *(f"*{what}*" for what in kept.values())]],
        ),
        shares=table(["images", *heads], shares),
    )


TEXT = """\
# Outliers: {dataset}, d = {dim}

AUROC against {n:,} held-out images, as many outliers of each kind; standard errors at most {worst:.4f}. Below .5,
outliers score as *more* usual than the held-out images.

{areas}
Share that is called an outlier at p ≤ α. Of held-out digits it should be α; the conformal p-values are calibrated on
the other {n:,}.

{shares}
`python -m benchmarks.outliers`, seed {provenance[seed]}, {provenance[processor]};
spec `{provenance[spec_digest]}`, in the JSON beside this page;
bundle `{provenance[bundle]}`.
"""


if __name__ == "__main__":
    main()
