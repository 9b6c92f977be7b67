"""What figures share: colours, a mean with its spread over seeds, lines of the law, labels that cover nothing."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nidim.reproduce.pareto import OTHERS, OURS, resolution
from nidim.reproduce.table import Found, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITH_NOISE, WITHOUT = OURS, OTHERS
PALETTE = ("#4e79d6", "#e8833a", "#3fa66a", "#d6514f", "#9069c8", "#a1745e", "#38afc4", "#dd76b4", "#b3a52b")
MUTED = "#6b7280"
INK = "#1a1d21"
DPI = 120
SW2 = "sliced Wasserstein-2 / floor"


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean, least and most over the seeds."""

    mean: float
    least: float
    most: float

    @classmethod
    def at(cls, value: float) -> Spread:
        """Without any."""
        return cls(value, value, value)

    @property
    def bar(self) -> tuple[list[float], list[float]] | None:
        """How far it reaches below and above the mean; None for nothing."""
        if self.least == self.most:
            return None
        return [self.mean - self.least], [self.most - self.mean]


def spread(runs: Iterable[Run], value: Callable[[Run], float | None]) -> Spread | None:
    """Of the figure over the seeds; None where one has none: a mean of fewer is no neighbour of the others."""
    found = [value(run) for run in runs]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return Spread(statistics.fmean(known), min(known), max(known))


def of(key: str) -> Callable[[Run], float | None]:
    """A figure of the report's summary."""
    return lambda run: run["report"].get(key)


def chance(run: Run) -> float | None:
    """Accuracy of always naming the most frequent class."""
    probes = run["report"].get("probes")
    return None if probes is None else float(probes["chance"])


def mean(found: Found, value: Callable[[Run], float | None]) -> float | None:
    """Over the runs of all rows, for what is the same of all but for chance: a floor, a capacity."""
    known = [one for _, runs in found for run in runs if (one := value(run)) is not None]
    return statistics.fmean(known) if known else None


@dataclasses.dataclass(frozen=True)
class Mark:
    """How a kind of points is drawn; ``size`` in points."""

    label: str
    color: str
    filled: bool = True
    marker: str = "o"
    size: float = 6.5
    line: str = "-"

    def draw(self, axes: Any, x: Spread, y: Spread) -> None:
        """One point with bars from the least to the most."""
        axes.errorbar(
            [x.mean],
            [y.mean],
            xerr=x.bar,
            yerr=y.bar,
            fmt=self.marker,
            color=self.color,
            markerfacecolor=self.color if self.filled else "none",
            markersize=self.size if self.filled else self.size + 2,
            markeredgewidth=1.0 if self.filled else 1.6,
            elinewidth=1.2,
            capsize=2,
            zorder=3,
            label=self.label,
        )


def line_of_the_law(axes: Any, *, x: float | None = None, y: float | None = None) -> None:
    """What true draws show, or a bound: dotted, behind the points."""
    if x is not None:
        axes.axvline(x, color=MUTED, linestyle=":", linewidth=1.3, zorder=1)
    if y is not None:
        axes.axhline(y, color=MUTED, linestyle=":", linewidth=1.3, zorder=1)


def legend(figure: Figure, axes: Sequence[Any], *, columns: int = 6) -> None:
    """Above all panels, each label once."""
    named = {
        label: getattr(drawn, "lines", [drawn])[0]
        for panel in axes
        for drawn, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside upper center",
            ncols=min(columns, len(named)),
            frameon=False,
        )


def resolution_bar(axes: Any, found: Found, accuracy: str, *, x: float = 0.03, y: float = 0.04) -> None:
    """How far apart two accuracies on the axis y have to be, from (x, y) of the axes up; at least four such fit."""
    known = resolution(found, accuracy)
    if known is None:
        return
    low, high = axes.get_ylim()
    missing = max(4 * known.apart - (high - low), 0) / 2
    low, high = low - missing, high + missing
    axes.set_ylim(low, high)
    start = low + y * (high - low)
    bar = {"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "color": MUTED, "shrinkA": 0, "shrinkB": 0}
    across = axes.get_yaxis_transform()
    axes.annotate("", (x, start), (x, start + known.apart), across, across, arrowprops=bar)
    axes.text(
        x + 0.012,
        start + known.apart / 2,
        f"{known.apart:.3f}",
        transform=across,
        va="center",
        fontsize=8,
        color=MUTED,
    )


def note(figure: Figure, found: Found, *, accuracy: str | None = None) -> None:
    """Below: what points and bars are; with the key of an accuracy how far apart two of them have to be."""
    seeds = [len(runs) for _, runs in found if runs]
    if not seeds:
        return
    if max(seeds) == 1:
        words = "One seed."
    else:
        number = f"{max(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
        words = f"Means of {number} seeds; bars: from the lowest to the highest."
    known = resolution(found, accuracy) if accuracy else None
    if known is not None:
        words += f" Accuracies less than {known.apart:.3f} apart have no order yet: {known.n:,} test images."
    figure.supxlabel(words, fontsize=8, color=MUTED)


PLACES = tuple(
    (dx, dy, {1: "left", 0: "center", -1: "right"}[(dx > 0) - (dx < 0)])
    for dx, dy in ((8, 0), (-8, 0), (0, 9), (0, -9), (6, 7), (-6, 7), (6, -7), (-6, -7), (14, 12), (-14, 12))
)


def labels(
    axes: Any, wanted: Sequence[tuple[str, float, float, str]], taken: Sequence[tuple[float, float]]
) -> None:
    """Write each (text, x, y, colour) beside its point, where it covers the least of others and of ``taken`` points."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()
    occupied = [
        Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(list(taken))
    ]
    for text, x, y, color in wanted:
        written = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", va="center", color=color, fontsize=9
        )
        costs = [_cost(axes, written, place, occupied) for place in PLACES]
        _cost(axes, written, PLACES[costs.index(min(costs))], occupied)
        occupied.append(written.get_window_extent())


def _cost(axes: Any, written: Any, place: tuple[int, int, str], occupied: Sequence[Any]) -> int:
    """How much the text covers there; outside of the axes is worse than all."""
    written.set_position(place[:2])
    written.set_ha(place[2])
    box = written.get_window_extent()
    inside = all(axes.bbox.contains(*corner) for corner in box.corners())
    return sum(box.overlaps(other) for other in occupied) + (0 if inside else len(occupied) + 1)
