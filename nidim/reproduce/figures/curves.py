"""Figures over an effect or a strength."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nidim.reproduce.departures import DEPARTURES
from nidim.reproduce.figures import style
from nidim.reproduce.figures.style import PALETTE, SW2, Mark, Spread, mean, of, spread
from nidim.reproduce.power import NAMES, SHOWN, Size, sizes
from nidim.reproduce.table import Found, Row, Run, Scale

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


def _curve(
    axes: Any,
    runs_at: Sequence[tuple[float, Sequence[Run]]],
    value: Callable[[Run], float | None],
    mark: Mark,
) -> None:
    """Points with their spread and a line through them."""
    points = [(x, y) for x, runs in runs_at if (y := spread(runs, value)) is not None]
    for x, y in points:
        mark.draw(axes, Spread.at(x), y)
    xs, ys = [x for x, _ in points], [y.mean for _, y in points]
    axes.plot(xs, ys, mark.line, color=mark.color, linewidth=1.4, zorder=2)


LINEAR = Mark("linear probe", PALETTE[0], filled=False, size=7)
KNN = Mark("nearest neighbours", PALETTE[2], marker="s", size=6)
MLP = Mark("MLP", PALETTE[3], marker="D", size=4)
USED = (("linear", LINEAR), ("knn", KNN), ("mlp", MLP))
TIMES = " ×"
APART = 0.6
"""Of a row that is no multiple of the default, in such multiples."""


def augmentation(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Accuracies, distance from the law, its p and Î over the strength; apart from them what is no multiple of it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.3), layout="constrained")
    own = Mark("", style.INK)
    panels = (
        ("accuracy\n(dotted: the most frequent class)", USED, mean(found, style.chance)),
        (f"{SW2}\n(dotted: true draws)", (("sw2_ratio", own),), 1.0),
        ("Henze–Zirkler p\n(dotted: true draws)", (("hz_p", own),), mean(found, of("hz_p_null"))),
        ("Î, nats\n(dotted: capacity C)", (("mi_nats", own),), mean(found, of("capacity_nats"))),
    )
    all_axes = figure.subplots(1, len(panels))
    for axes, (title, curves, law) in zip(all_axes, panels, strict=True):
        for key, mark in curves:
            _over_strength(axes, found, of(key), mark)
        style.line_of_the_law(axes, y=law)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("augmentation, multiples of the default")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    style.legend(figure, all_axes)
    style.note(figure, found, accuracy="mlp")
    figure.savefig(path, dpi=style.DPI)


def _over_strength(axes: Any, found: Found, value: Callable[[Run], float | None], mark: Mark) -> None:
    multiples = [(strength, runs) for row, runs in found if (strength := _strength(row)) is not None]
    others = [(row, runs) for row, runs in found if _strength(row) is None and runs]
    last = max((strength for strength, _ in multiples), default=0.0)
    places = [last + APART * number for number, _ in enumerate(others, start=1)]
    _curve(axes, multiples, value, mark)
    for place, (_, runs) in zip(places, others, strict=True):
        _curve(axes, [(place, runs)], value, mark)
    names = [row.labels[0].partition(",")[0].replace(" ", "\n", 1) for row, _ in others]
    ticks = [strength for strength, _ in multiples]
    axes.set_xticks(
        [*ticks, *places], [*(f"{tick:g}".removeprefix("0") or "0" for tick in ticks), *names], fontsize=8.5
    )
    axes.set_xlim(-0.1, max([*ticks, *places], default=0.0) + 0.2)


def _strength(row: Row) -> float | None:
    (name,) = row.labels
    return float(name.removesuffix(TIMES)) if name.endswith(TIMES) else None


def _error(key: str) -> Callable[[Run], float | None]:
    return lambda run: 1 - run["report"][key]


REJECTED = Mark("share rejected by Henze–Zirkler (dotted: its level, .05)", style.INK, marker="v", line="--")
JUDGED = (
    (_error("linear"), dataclasses.replace(LINEAR, label="error of a linear classifier")),
    (_error("knn"), dataclasses.replace(KNN, label="of nearest neighbours")),
    (_error("mlp"), dataclasses.replace(MLP, label="of an MLP")),
    (of("hz_reject"), REJECTED),
)
KINDS = (
    ("blur", "cones, blurred", "ν"),
    ("twist", "spirals", "τ, turns"),
    ("gap", "blurred cones, apart", "g"),
)


def separability(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Errors of classifiers and the share that Henze–Zirkler rejects over what is done to cones; a row a dimension."""
    from matplotlib.figure import Figure

    dims = list(dict.fromkeys(row.labels[0] for row, _ in found))
    figure = Figure(figsize=(13, 4 * len(dims)), layout="constrained")
    panels = figure.subplots(len(dims), len(KINDS), sharex="col", sharey=True, squeeze=False)
    for axes, (dim, (kind, title, _)) in zip(panels.flat, itertools.product(dims, KINDS), strict=True):
        runs_at = _departing([pair for pair in found if pair[0].labels[0] == dim], kind)
        for value, mark in JUDGED:
            _curve(axes, runs_at, value, mark)
        style.line_of_the_law(axes, y=0.05)
        axes.set_title(f"d = {dim}: {title}", loc="left", fontsize=10)
        axes.set_xticks([effect for effect, _ in runs_at])
        axes.set_ylim(-0.04, 1.04)
        axes.grid(alpha=0.3)
    for axes, (*_, effect) in zip(panels[-1], KINDS, strict=True):
        axes.set_xlabel(effect)
    for axes in panels[:, 0]:
        axes.set_ylabel("error, or share rejected")
    style.legend(figure, list(panels.flat))
    style.note(figure, found)
    figure.savefig(path, dpi=style.DPI)


def _departing(found: Found, kind: str) -> list[tuple[float, Sequence[Run]]]:
    """Runs of one kind by how much was done, after those that it departs from, at 0."""
    own = [(row, runs) for row, runs in found if _kind(row) == kind]
    if not own:
        return []
    before = {key: value for key, value in own[0][0].changes.items() if key != kind}
    start = [(0.0, runs) for row, runs in found if row.changes == before]
    return [*start, *((float(row.changes[kind]), runs) for row, runs in own)]


def _kind(row: Row) -> str:
    """What was done last; nothing for cones."""
    return next((kind for kind, *_ in reversed(KINDS) if kind in row.changes), "")
