"""Plots of tables, as PNG files."""

from __future__ import annotations

import statistics
from pathlib import Path

from nidim.reproduce.table import Found, Scale

RECORD = (
    (1.134, 0.007, 0.780),
    (0.680, 0.296, 0.796),
    (0.333, 0.451, 0.783),
    (0.181, 0.437, 0.786),
    (0.1005, 0.397, 0.830),
    (0.0316, 0.267, 0.870),
    (0.0100, 0.053, 0.873),
    (0.0010, 0.006, 0.882),
)
"""(σ, Henze–Zirkler p, MLP accuracy) of the authors' published record: MNIST, d = 2, 2000 epochs; arXiv 2410.06993."""


def tradeoff(found: Found, scale: Scale, path: Path) -> None:
    """MLP accuracy over Henze–Zirkler p, one point a strength of noise; on MNIST with the authors' record."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for row, runs in found:
        points = [
            (run["report"]["hz_p"], run["report"]["mlp"])
            for run in runs
            if run["report"]["hz_p"] is not None and run["report"]["mlp"] is not None
        ]
        if points:
            law, strength = row.labels
            x, y = (statistics.fmean(values) for values in zip(*points, strict=True))
            groups.setdefault(law, []).append((strength, x, y))
    for law, points_of in groups.items():
        axes.plot([p[1] for p in points_of], [p[2] for p in points_of], "o-", label=law)
        for strength, x, y in points_of:
            axes.annotate(strength, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    if scale == "full":
        axes.plot(
            [p for _, p, _ in RECORD],
            [a for *_, a in RECORD],
            "s--",
            color="gray",
            label="the authors' record",
        )
    axes.set_xlabel("Henze–Zirkler p of the embeddings (true draws: .496)")
    axes.set_ylabel("accuracy of an MLP")
    if axes.lines:
        axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def rivals(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Accuracy of a linear probe over the distance from the law, a panel a dimension: up and to the left is better."""
    from matplotlib.figure import Figure

    dims = sorted({int(row.labels[0]) for row, _ in found})
    figure = Figure(figsize=(6 * len(dims), 5), layout="constrained")
    for axes, dim in zip(figure.subplots(1, len(dims), squeeze=False)[0], dims, strict=True):
        for row, runs in found:
            points = [(run["report"]["sw2_ratio"], run["report"]["linear"]) for run in runs]
            known = [(x, y) for x, y in points if x is not None and y is not None]
            if not known or int(row.labels[0]) != dim:
                continue
            x, y = (statistics.fmean(values) for values in zip(*known, strict=True))
            axes.plot([x], [y], "o", color="#d6514f" if "noise" in row.labels[1] else "#4e79d6")
            axes.annotate(row.labels[1], (x, y), textcoords="offset points", xytext=(6, 3), fontsize=8)
        axes.set_xscale("log")
        axes.set_title(f"d = {dim}")
        axes.set_xlabel("sliced Wasserstein-2 of the clean embedding / floor of true draws")
        axes.set_ylabel("accuracy of a linear probe")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
