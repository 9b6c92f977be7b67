"""The plots of a report: what they say stays inside them, although their margins are fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nidim.evaluate import plots
from nidim.evaluate.report import HenzeZirkler

N = 200
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
