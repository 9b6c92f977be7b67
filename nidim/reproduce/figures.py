"""Plots of tables, as PNG files."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from nidim.reproduce.departures import DEPARTURES
from nidim.reproduce.power import NAMES, SHOWN, Size, sizes
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
    for number, (law, points_of) in enumerate(groups.items()):
        (line,) = axes.plot([p[1] for p in points_of], [p[2] for p in points_of], "o-", label=law)
        side, ha = ((5, "left"), (-5, "right"))[number % 2]
        for place, (strength, x, y) in enumerate(points_of):
            axes.annotate(
                strength,
                (x, y),
                textcoords="offset points",
                xytext=(side, (5, -11)[place % 2]),
                ha=ha,
                color=line.get_color(),
                fontsize=8,
            )
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


DRAWN = {
    "mean": "#4e79d6",
    "covariance": "#e8833a",
    "ks": "#3fa66a",
    "radius": "#d6514f",
    "energy": "#9069c8",
    "bhep": "#a1745e",
    "sliced_epps_pulley": "#dd76b4",
    "henze_zirkler": "#1a1d21",
    "mardia_kurtosis": "#b3a52b",
    "dagostino": "#38afc4",
}
"""Tests whose power is drawn in colour."""


def power(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Share of sets that each test rejects over the effect, a panel a departure; level .05 and power .8 as lines."""
    from matplotlib.figure import Figure

    size = next((s for s in sizes(found) if (s.n, s.d) == SHOWN and len(s.rates) > 1), None)
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    panels = figure.subplots(2, len(DEPARTURES) // 2, sharey=True)
    for axes, departure in zip(panels.flat, DEPARTURES, strict=True):
        if size is not None:
            _power_curves(axes, size, departure.name)
        for level in (0.05, 0.8):
            axes.axhline(level, color="gray", linewidth=0.8, linestyle=":")
        axes.set_title(departure.title, loc="left")
        axes.set_xlabel(departure.phrase.format("x"), fontsize=8)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.2)
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the sets rejected")
    lines, labels = panels.flat[0].get_legend_handles_labels()
    if lines:
        figure.legend(lines, labels, loc="outside lower center", ncols=len(DRAWN) // 2, frameon=False)
    n, d = SHOWN
    figure.suptitle(f"Power at the level .05, n = {n:,}, d = {d}")
    figure.savefig(path, dpi=110)


def _power_curves(axes: Any, size: Size, departure: str) -> None:
    for test, colour in DRAWN.items():
        if curve := size.curve(departure, test):
            x, y = zip(*curve, strict=True)
            axes.plot(x, y, "o-", color=colour, label=NAMES[test], markersize=3.5, linewidth=1.4)
