"""Figures with a line a row of the table: dots with their spread over the seeds, beside what true draws show."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nidim.reproduce.figures import style
from nidim.reproduce.figures.style import Mark, Spread
from nidim.reproduce.table import Found, Row, Run

GAP = 0.4
"""Between groups of lines, in lines."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """``title`` below the axis, which begins at ``start``; ``law``: a dotted line; below ``low``: an arrow instead."""

    title: str
    law: float | None = None
    log: bool = False
    start: float | None = None
    low: float | None = None


@dataclasses.dataclass(frozen=True)
class Dot:
    """Values by panel, None where there are none; ``floors``: what true draws show beside this value, as a tick."""

    mark: Mark
    values: Sequence[Spread | None]
    floors: Sequence[Spread | None] = ()


@dataclasses.dataclass(frozen=True)
class Line:
    """A name and its dots; lines of a ``group`` stand together."""

    name: str
    dots: Sequence[Dot]
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Look:
    """``apart``: between the dots of a line, in lines; 0 joins them by a line. ``accuracy``: see ``style.note``."""

    width: float = 12.0
    apart: float = 0.0
    accuracy: str | None = None


def draw(lines: Sequence[Line], panels: Sequence[Panel], found: Found, path: Path, look: Look) -> None:
    """Lines from above to below, a panel a figure."""
    from matplotlib.figure import Figure

    places = _places(lines)
    height = 1.6 + 0.36 * (places[-1] + 1 if places else 1)
    figure = Figure(figsize=(look.width, height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for number, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        _prepare(axis, panel)
        for place, line in zip(places, lines, strict=True):
            _line(axis, panel, line, number, place, look.apart)
        axis.set_xlim(left=_left(panel, lines, number))
    axes[0].set_yticks(places, [line.name for line in lines])
    if places:
        axes[0].set_ylim(places[-1] + 0.6, -0.6)
    style.legend(figure, axes)
    style.note(figure, found, accuracy=look.accuracy)
    figure.savefig(path, dpi=style.DPI)


def _places(lines: Sequence[Line]) -> list[float]:
    places, place = [], 0.0
    for before, line in itertools.pairwise([*lines[:1], *lines]):
        place += GAP if line.group != before.group else 0
        places.append(place)
        place += 1
    return places


def _prepare(axis: Any, panel: Panel) -> None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    if panel.log:
        axis.set_xscale("log")
        axis.set_xticks([1, 2, 5, 10, 20])
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(panel.title)
    axis.tick_params(axis="y", length=0)
    axis.grid(alpha=0.3)
    style.line_of_the_law(axis, x=panel.law)


def _left(panel: Panel, lines: Sequence[Line], number: int) -> float | None:
    values = [value for line in lines for dot in line.dots if (value := dot.values[number]) is not None]
    if panel.low is not None and any(value.least < panel.low for value in values):
        return panel.low
    return panel.start


def _line(axis: Any, panel: Panel, line: Line, number: int, place: float, apart: float) -> None:
    shown = [(i, dot, value) for i, dot in enumerate(line.dots) if (value := dot.values[number]) is not None]
    inside = [value.mean for _, _, value in shown if panel.low is None or value.mean >= panel.low]
    if not apart and len(inside) > 1:
        axis.plot([min(inside), max(inside)], [place] * 2, color="#c9ced6", linewidth=2, zorder=1.5)
    for i, dot, value in shown:
        y = place + apart * (i - (len(line.dots) - 1) / 2)
        if panel.low is not None and value.mean < panel.low:
            _arrow(axis, dot.mark, value.mean, y)
        else:
            dot.mark.draw(axis, value, Spread.at(y))
        floor = dot.floors[number] if dot.floors else None
        if floor is not None:
            axis.plot([floor.mean], [y], "|", color=style.MUTED, markersize=11, markeredgewidth=1.6, zorder=2)


def _arrow(axis: Any, mark: Mark, value: float, y: float) -> None:
    axis.plot([0.02], [y], "<", color=mark.color, transform=axis.get_yaxis_transform(), zorder=3)
    axis.annotate(
        f"{value:.1f}".replace("-", "−"),
        (0.05, y),
        xycoords=axis.get_yaxis_transform(),
        va="center",
        fontsize=8,
        color=mark.color,
    )


def gathered(found: Found, name: Callable[[Row], str]) -> dict[str, list[tuple[Row, Sequence[Run]]]]:
    """Rows that have runs, by what they share."""
    shared: dict[str, list[tuple[Row, Sequence[Run]]]] = {}
    for row, runs in found:
        if runs:
            shared.setdefault(name(row), []).append((row, runs))
    return shared
