"""The plots of a report: what they say stays inside them, although their margins are fixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nidim.evaluate import plots
from nidim.evaluate.report import HenzeZirkler

N = 200
HALF_A_DIGIT = 4
"""Pixels."""
HISTORY = [{"epoch": i, "mi_nats": 10.0 - 9.5 / (i + 1)} for i in range(30)]
HZ = HenzeZirkler(
    p=0.4,
    p_null=0.5,
    p_null_sd=0.01,
    reject=0.1,
    reject_null=0.05,
    below_null=False,
    subsamples=20_000,
    size=64,
    histogram=(1000,) * 20,
    histogram_null=(1000.0,) * 20,
)
"""Counts of four digits."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that became SVG."""
    found: list[Figure] = []

    def keep(figure: Figure, **_: Any) -> str:
        found.append(figure)
        return "<svg/>"

    monkeypatch.setattr(plots, "to_svg", keep)
    return found


def draw(d: int, scale: float) -> None:
    """Every plot of embeddings of d coordinates."""
    s = np.random.default_rng(0).standard_normal((N, d))
    plots.training_curve(HISTORY, capacity_nats=9.0, ceiling_nats=12.25)
    plots.training_curve(HISTORY[:2], capacity_nats=None, ceiling_nats=None)
    plots.qq_coordinates(s, of="x")
    plots.qq_projections(s, of="x")
    plots.p_values(np.random.default_rng(1).random(100 * N), of="x")
    plots.hz_histogram(HZ)
    for wide in (False, True):
        plots.shape_by_coordinate(s, of="x", wide=wide)
    if d > 1:
        points = scale * s[:, :2]
        plots.scatter(points, points, np.arange(N) % 10, axes_are=("coordinate 1", "coordinate 2"))
    plots.histogram(scale * s[:, 0], scale * s[:, 0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ends", [(0.0, 2.5), (3.0, 1.0), (0.01, 0.02), (-1.0, -0.5)])
def test_the_name_of_a_curve_is_not_on_the_curve(
    ends: tuple[float, float], seed: int, drawn: list[Figure]
) -> None:
    rng = np.random.default_rng(seed)
    bound = np.linspace(*ends, 400) + 0.1 * np.ptp(ends) * rng.standard_normal(400)
    history = [{"epoch": i / 20, "mi_nats": float(nats)} for i, nats in enumerate(bound)]
    plots.training_curve(history, capacity_nats=2.6, ceiling_nats=None)
    (ax,) = drawn[0].axes
    (name,) = [text for text in ax.texts if text.get_text().startswith("Î")]
    box, inside = name.get_window_extent(), ax.get_window_extent()
    curve = ax.lines[0]
    at = curve.get_transform().transform(curve.get_xydata())
    assert not [point for point in at if box.contains(*point)]
    assert inside.y0 <= box.y0
    assert box.y1 <= inside.y1


@pytest.mark.parametrize(("d", "scale"), [(1, 1.0), (2, 1000.0), (8, 0.01)])
def test_nothing_is_cut_off(d: int, scale: float, drawn: list[Figure]) -> None:
    draw(d, scale)
    assert len(drawn) == (9 if d == 1 else 10)
    for figure in drawn:
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not list(overlapping(figure))


def overlapping(figure: Figure) -> Iterator[tuple[str, str]]:
    """Numbers of neighbouring axes that run into each other, or stand closer than half a digit."""
    for one, other in itertools.combinations(figure.axes, 2):
        for a, b in itertools.product(numbers(one), numbers(other)):
            if a.get_window_extent().padded(HALF_A_DIGIT).overlaps(b.get_window_extent()):
                yield a.get_text(), b.get_text()


def numbers(ax: Axes) -> list[Text]:
    """Those at its ticks that are seen: of ticks within its limits."""
    if not ax.get_visible():
        return []
    shown = []
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        for tick in axis.get_major_ticks():
            if tick.label1.get_visible() and low <= tick.get_loc() <= high:
                shown.append(tick.label1)
    return shown
