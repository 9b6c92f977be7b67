"""Figures of accuracy over the distance from the law."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nidim.reproduce.figures import style
from nidim.reproduce.figures.style import INK, PALETTE, SW2, Mark, Spread, mean, of, spread
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


Point = tuple[Spread, Spread]


def plugins(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """An arrow a method, from without noise to with it: accuracy of an MLP over the distance from the law."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots()
    methods = _pairs(found)
    names, taken = [], []
    for (method, ends), color in zip(methods.items(), itertools.cycle(PALETTE), strict=False):
        for noisy, (x, y) in ends.items():
            Mark("", color, filled=noisy).draw(axes, x, y)
        taken += _arrow(axes, ends, color)
        x, y = ends.get(True) or ends[False]
        names.append((method, x.mean, y.mean, color))
    for filled, label in ((False, "without noise"), (True, "with noise before the projection head")):
        axes.plot([], [], "o", color=INK, markerfacecolor=INK if filled else "white", label=label)
    style.line_of_the_law(axes, x=1.0)
    axes.set_xlabel(f"{SW2} (dotted: true draws)")
    axes.set_ylabel("accuracy of an MLP")
    axes.grid(alpha=0.3)
    style.legend(figure, [axes])
    style.resolution_bar(axes, found, "mlp", x=0.07)
    style.note(figure, found, accuracy="mlp")
    style.labels(axes, names, taken)
    figure.savefig(path, dpi=style.DPI)


def _pairs(found: Found) -> dict[str, dict[bool, Point]]:
    """Of each method the points with noise and without."""
    methods: dict[str, dict[bool, Point]] = {}
    for row, runs in found:
        x, y = spread(runs, of("sw2_ratio")), spread(runs, of("mlp"))
        if x is not None and y is not None:
            method, noise = row.labels
            methods.setdefault(method, {})[noise != "none"] = (x, y)
    return methods


def _arrow(axes: Any, ends: Mapping[bool, Point], color: str) -> list[tuple[float, float]]:
    """Drawn where there are both ends; points along it."""
    at = {noisy: (x.mean, y.mean) for noisy, (x, y) in ends.items()}
    if len(at) < 2:
        return list(at.values())
    (x0, y0), (x1, y1) = at[False], at[True]
    style_of = {"arrowstyle": "-|>", "color": color, "shrinkA": 4, "shrinkB": 4, "linewidth": 1.4}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style_of)
    return [(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in np.linspace(0, 1, 20)]


LOOKS = list(zip(PALETTE, "oDs^vPXp*", strict=True))


def injection(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """A point a strategy: accuracy of an MLP over Henze–Zirkler p and over the distance from the law."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    measures = (
        ("hz_p", "Henze–Zirkler p (dotted: true draws)", mean(found, of("hz_p_null"))),
        ("sw2_ratio", f"{SW2} (dotted: true draws)", 1.0),
    )
    for axes, (key, title, law) in zip(panels, measures, strict=True):
        for (row, runs), (color, marker) in zip(found, LOOKS, strict=False):
            x, y = spread(runs, of(key)), spread(runs, of("mlp"))
            if x is not None and y is not None:
                Mark(row.labels[0], color, marker=marker).draw(axes, x, y)
        style.line_of_the_law(axes, x=law)
        axes.set_xlabel(title)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy of an MLP")
    style.resolution_bar(panels[0], found, "mlp")
    style.legend(figure, panels, columns=2)
    style.note(figure, found, accuracy="mlp")
    figure.savefig(path, dpi=style.DPI)
