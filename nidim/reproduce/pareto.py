"""Accuracy against matching: which ways of giving an embedding its law no other way beats in both."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from nidim.reproduce.table import Found, Scale

ACCURACIES = (("linear", "a linear probe"), ("mlp", "an MLP"))
OURS = "#d6514f"
OTHERS = "#4e79d6"


@dataclasses.dataclass(frozen=True)
class Point:
    """Means over the seeds: distance from the law (less is better), accuracy (more is)."""

    name: str
    distance: float
    accuracy: float

    def beats(self, other: Point) -> bool:
        """Whether it is as good in both and better in one."""
        as_good = self.distance <= other.distance and self.accuracy >= other.accuracy
        return as_good and (self.distance, self.accuracy) != (other.distance, other.accuracy)


def points(found: Found, dim: int, accuracy: str) -> list[Point]:
    """Of the rows of a dimension that have both figures, in the order of the table."""
    all_points = []
    for row, runs in found:
        pairs = [(run["report"]["sw2_ratio"], run["report"][accuracy]) for run in runs]
        known = [(x, y) for x, y in pairs if x is not None and y is not None]
        if known and int(row.labels[0]) == dim:
            x, y = (statistics.fmean(values) for values in zip(*known, strict=True))
            all_points.append(Point(row.labels[1], x, y))
    return all_points


def front(all_points: Sequence[Point]) -> list[Point]:
    """Those that no other beats, the nearest to the law first."""
    kept = [p for p in all_points if not any(other.beats(p) for other in all_points)]
    return sorted(kept, key=lambda p: p.distance)


def findings(found: Found) -> str:
    """The fronts in words, and where the two ways of this project stand."""
    lines = ["Nothing beats these in both SW2 / floor and accuracy, nearest to the law first:", ""]
    for dim in _dims(found):
        for accuracy, title in ACCURACIES:
            all_points = points(found, dim, accuracy)
            if not all_points:
                continue
            best = front(all_points)
            words = ", ".join(f"{p.name} ({p.distance:.2f}, {p.accuracy:.3f})" for p in best)
            beaten = [p for p in all_points if p not in best and p.name.startswith("noise")]
            lines.append(f"- d = {dim}, accuracy of {title}: {words}.")
            lines += [f"  Not among them: {_beaten(p, all_points)}" for p in beaten]
    return "\n".join([*lines, *_resolution(found)])


@dataclasses.dataclass(frozen=True)
class Resolution:
    """Of accuracies: two standard errors of a difference, of ``n`` test images and at least ``seeds`` seeds."""

    n: int
    seeds: int
    apart: float


def resolution(found: Found, accuracy: str) -> Resolution | None:
    """How far apart two accuracies have to be before their order means something; None where there are none."""
    runs = [run["report"] for _, runs in found for run in runs if run["report"][accuracy] is not None]
    if not runs:
        return None
    seeds = min(len(runs) for _, runs in found if runs)
    n, p = runs[0]["n_heldout"], statistics.fmean(report[accuracy] for report in runs)
    return Resolution(n, seeds, 2 * math.sqrt(2 * p * (1 - p) / (n * seeds)))


def _resolution(found: Found) -> list[str]:
    known = resolution(found, "mlp")
    if known is None:
        return []
    of = f"{known.n:,} test images and " + ("one seed" if known.seeds == 1 else f"{known.seeds} seeds")
    return [
        "",
        f"Of {of}, accuracies that are less than {known.apart:.3f} apart have no order yet, nor have such fronts.",
    ]


def _beaten(point: Point, all_points: Sequence[Point]) -> str:
    by = [p.name for p in all_points if p.beats(point)]
    return f"{point.name} ({point.distance:.2f}, {point.accuracy:.3f}), beaten by {', '.join(by)}."


def figure(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Accuracy of a linear probe over the distance from the law with the front, a panel a dimension, named below."""
    from matplotlib.figure import Figure

    dims = _dims(found)
    drawn = Figure(figsize=(6.5 * len(dims), 6.5), layout="constrained")
    numbers: dict[str, int] = {}
    for axes, dim in zip(drawn.subplots(1, len(dims), squeeze=False)[0], dims, strict=True):
        all_points = points(found, dim, "linear")
        best = front(all_points)
        axes.step([p.distance for p in best], [p.accuracy for p in best], where="post", color="gray", lw=0.9)
        for p in all_points:
            number = numbers.setdefault(p.name, len(numbers) + 1)
            color = OURS if p.name.startswith("noise") else OTHERS
            axes.plot([p.distance], [p.accuracy], "o", color=color, markersize=15)
            axes.annotate(
                str(number), (p.distance, p.accuracy), color="white", ha="center", va="center", fontsize=8
            )
        axes.set_xscale("log")
        axes.set_title(f"d = {dim}")
        axes.set_xlabel("sliced Wasserstein-2 of the clean embedding / floor of true draws")
        axes.set_ylabel("accuracy of a linear probe")
        axes.grid(alpha=0.3)
    names = [f"{number}  {name}" for name, number in numbers.items()]
    rows = -(-len(names) // 3)
    for column in range(3):
        text = "\n".join(names[column * rows : (column + 1) * rows])
        drawn.text(0.04 + column / 3, -0.01, text, fontsize=9, va="top")
    drawn.savefig(path, dpi=120, bbox_inches="tight")


def _dims(found: Found) -> list[int]:
    return sorted({int(row.labels[0]) for row, _ in found})
