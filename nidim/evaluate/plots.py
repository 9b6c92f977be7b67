"""The plots of a report: do the embeddings follow the law, and how did the training go.

All of them are drawn on normal scores s (n, d), which are N(0, I) under the promise of any law; only the
scatter stays in the law's own scale. Bands are simulated from the law itself, for the same n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import special

from nidim.evaluate.draws import generator
from nidim.evaluate.epps_pulley import directions
from nidim.evaluate.moments import skew_and_kurtosis
from nidim.evaluate.report import HenzeZirkler
from nidim.evaluate.svg import COLOURS, LEFT, panels, plain, style, to_svg

Floats = NDArray[np.float64]

INK, MUTED, LINE, ACCENT, WARM = (COLOURS[name] for name in ("ink", "muted", "line", "accent", "warm"))
CLASS_COLOURS = (
    "#4e79d6",
    "#e8833a",
    "#3fa66a",
    "#d6514f",
    "#9069c8",
    "#a1745e",
    "#dd76b4",
    "#7f868d",
    "#b3a52b",
    "#38afc4",
)
"""Mid tones that stand out on light and on dark."""

QQ_COORDINATES = 8
HALF, WIDE = 4.85, 10.4
"""Inches of a panel's width: at the page's full width text comes out at its own size."""
NAMED, ROOM = 0.1, 0.1
"""Of a curve's width and height: what its name at the right end takes."""
_PROJECTIONS = 20
_SIMULATIONS = 199
_QUANTILES = 96


def training_curve(
    history: Sequence[dict[str, Any]], *, capacity_nats: float | None, ceiling_nats: float | None
) -> str | None:
    """Î over the epochs, below the capacity C and the ceiling log n; None without a usable history."""
    points = [(_time(h), h["mi_nats"]) for h in history if _finite(h.get("mi_nats"))]
    if len(points) < 2:
        return None
    points = points[:: max(1, len(points) // 600)]
    x, y = [p[0] for p in points], [p[1] for p in points]
    with style():
        figure, ((ax,),) = panels(WIDE, 3.3)
        ax.plot(x, y, color=ACCENT, linewidth=1.8)
        if _finite(capacity_nats):
            _level(ax, capacity_nats, f"capacity C = {capacity_nats:.2f}", line="--")
        if _finite(ceiling_nats):
            _level(ax, ceiling_nats, f"ceiling, log of the batch = {ceiling_nats:.2f}", line=":")
        ax.set_ylim(bottom=min(0.0, *y))
        last = [value for at, value in points if at >= x[-1] - NAMED * (x[-1] - x[0])]
        bottom, top = ax.get_ylim()
        below = min(last) - bottom > ROOM * (top - bottom)
        _level(ax, min(last) if below else max(last), f"Î = {y[-1]:.2f}", line=None, below=below)
        ax.margins(x=0.04)
        plain(ax, x="epoch", y="nats")
        limit = "" if capacity_nats is None else f" of a capacity of {capacity_nats:.2f}"
        return to_svg(
            figure, name="training", alt=f"Training curve: the bound reaches {y[-1]:.2f} nats{limit}."
        )


def _level(ax: Axes, value: float, text: str, *, line: str | None, below: bool = False) -> None:
    """A horizontal line with its name at the right end; only the name where ``line`` is None."""
    colour = {"--": WARM, ":": MUTED, None: ACCENT}[line]
    if line:
        ax.axhline(value, color=colour, linestyle=line, linewidth=1.2)
    at, side = (-2, -4 if below else 3), "top" if below else "bottom"
    where = ("axes fraction", "data")
    ax.annotate(
        text,
        (1, value),
        at,
        xycoords=where,
        textcoords="offset points",
        ha="right",
        va=side,
        color=colour,
        fontsize=9,
    )


def _time(point: dict[str, Any]) -> float:
    return float(point["epoch"] if _finite(point.get("epoch")) else point.get("step", 0))


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def qq_coordinates(s: Floats, *, of: str) -> str:
    """Q–Q plots of up to eight coordinates of ``s`` (n, d) against N(0, 1)."""
    count = min(s.shape[1], QQ_COORDINATES)
    columns = min(count, 4)
    rows = -(-count // columns)
    with style():
        size = (HALF, 3.5) if count <= 2 else (WIDE, 2.5 * rows + 0.2)
        figure, axes = panels(
            *size, rows=rows, columns=columns, apart=(0.3, 0.1), titles=True, sharex=True, sharey=True
        )
        for k, ax in enumerate(axes.flat):
            ax.set_visible(k < count)
            if k < count:
                _qq_panel(ax, s[:, k : k + 1], alpha=1.0)
                plain(ax, title=f"coordinate {k + 1}")
        figure.supxlabel("quantile of N(0, 1)", color=MUTED, fontsize=9)
        figure.supylabel("quantile of the scores", color=MUTED, fontsize=9)
        return to_svg(figure, name="qq", alt=f"Q–Q plots of {count} coordinates of {of} against N(0, 1).")


def qq_projections(s: Floats, *, of: str) -> str:
    """Q–Q plot of random projections of ``s`` (n, d), all in one."""
    a = directions(s.shape[1], _PROJECTIONS, seed=1)
    with style():
        figure, ((ax,),) = panels(HALF, 3.5)
        _qq_panel(ax, s @ a, alpha=0.55)
        plain(ax, x="quantile of N(0, 1)", y="quantile of the projection")
        alt = f"Q–Q plot of {a.shape[1]} random projections of {of} against N(0, 1)."
        return to_svg(figure, name="projections", alt=alt)


def _qq_panel(ax: Axes, columns: Floats, *, alpha: float) -> None:
    ranks, theory, low, high = envelope(len(columns))
    ax.fill_between(theory, low, high, color=MUTED, alpha=0.28, linewidth=0)
    ax.plot(theory[[0, -1]], theory[[0, -1]], color=MUTED, linewidth=0.8)
    for edge in (low, high):
        ax.plot(theory, edge, color=MUTED, linewidth=0.7, zorder=3)
    for column in columns.T:
        ax.plot(theory, np.sort(column)[ranks], color=ACCENT, linewidth=1.3, alpha=alpha)
    reach = float(np.abs(theory).max()) + 1.2
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)


@functools.lru_cache(maxsize=8)
def envelope(n: int) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Some ranks of n ordered true draws, their quantiles, and a simultaneous 95 % band around those."""
    spread = special.ndtr(np.linspace(-1, 1, _QUANTILES) * special.ndtri(1 - 0.5 / n))
    ranks = np.unique(np.clip(np.round(spread * n - 0.5).astype(np.int64), 0, n - 1))
    draws = generator(n, "envelope").standard_normal((_SIMULATIONS, n))
    sets = np.sort(draws, axis=1)[:, ranks]
    centre, sd = sets.mean(axis=0), sets.std(axis=0)
    reach = np.quantile(np.abs((sets - centre) / sd).max(axis=1), 0.95)
    return ranks, special.ndtri((ranks + 0.5) / n), centre - reach * sd, centre + reach * sd


def scatter(
    x: Floats, draws: Floats, labels: NDArray[np.integer] | None, *, axes_are: tuple[str, str]
) -> str:
    """Embeddings beside equally many prior draws, both (n, 2), on the same axes."""
    low, high = _limits(np.concatenate([x, draws]))
    with style():
        figure, ((left, right),) = panels(
            WIDE, 4.9, columns=2, apart=(0.12, 0.0), titles=True, sharex=True, sharey=True
        )
        size = float(np.clip(12_000 / len(x), 2.0, 14.0))
        for ax, points, colours in ((left, x, class_colours(labels)), (right, draws, "#7f868d")):
            ax.scatter(
                *points.T, s=size, c=colours or CLASS_COLOURS[0], linewidths=0, alpha=0.75, rasterized=True
            )
            ax.set_aspect("equal")
        left.set_xlim(low[0], high[0])
        left.set_ylim(low[1], high[1])
        plain(left, x=axes_are[0], y=axes_are[1], title=f"{len(x):,} held-out embeddings")
        plain(right, x=axes_are[0], title=f"{len(draws):,} draws from the law")
        figure.set_dpi(200)
        alt = "Scatter plot of held-out embeddings beside draws from the law, on the same axes."
        return to_svg(figure, name="scatter", alt=alt)


def _limits(points: Floats) -> tuple[Floats, Floats]:
    low, high = np.quantile(points, [0.0005, 0.9995], axis=0)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def class_colours(labels: NDArray[np.integer] | None) -> list[str] | None:
    """A colour for each point; classes beyond the palette reuse it."""
    if labels is None:
        return None
    return [CLASS_COLOURS[int(label) % len(CLASS_COLOURS)] for label in labels]


def p_values(p: Floats, *, of: str) -> str:
    """Histogram of P(χ²_d ≥ ‖s‖²), flat under the law, with the band of that many true draws."""
    cells, n = 25, len(p)
    counts = np.histogram(p, bins=cells, range=(0, 1))[0]
    reach = special.ndtri(1 - 0.025 / cells) * math.sqrt(n / cells * (1 - 1 / cells))
    with style():
        figure, ((ax,),) = panels(HALF, 3.1)
        ax.bar((np.arange(cells) + 0.5) / cells, counts, width=0.86 / cells, color=ACCENT, linewidth=0)
        ax.axhspan(n / cells - reach, n / cells + reach, color=MUTED, alpha=0.25, linewidth=0)
        ax.axhline(n / cells, color=INK, linewidth=0.8)
        ax.set_ylim(bottom=0)
        plain(ax, x="p-value of the squared norm", y="embeddings")
        return to_svg(
            figure, name="pvalues", alt=f"Histogram of the outlier scores of {of}; flat under the law."
        )


def hz_histogram(hz: HenzeZirkler) -> str:
    """The subsamples by their Henze–Zirkler p, beside the same protocol on true draws."""
    cells = len(hz.histogram)
    centres = (np.arange(cells) + 0.5) / cells
    with style():
        figure, ((ax,),) = panels(HALF, 3.1)
        ax.bar(centres, hz.histogram, width=0.86 / cells, color=ACCENT, linewidth=0, label="embeddings")
        edges = np.arange(cells + 1) / cells
        ax.stairs(hz.histogram_null, edges, color=WARM, linewidth=1.6, label="true draws")
        ax.legend(frameon=False, fontsize=8, labelcolor=MUTED)
        plain(ax, x=f"Henze–Zirkler p, subsamples of {hz.size}", y="subsamples")
        alt = f"Histogram of Henze–Zirkler p: mean {hz.p:.3f}, on true draws {hz.p_null:.3f}."
        return to_svg(figure, name="hz", alt=alt)


def shape_by_coordinate(s: Floats, *, of: str, wide: bool) -> str:
    """Skewness and excess kurtosis of every coordinate of ``s`` (n, d), with bands of 95 % over all."""
    n, d = s.shape
    reach = special.ndtri(1 - 0.025 / d)
    bands = (reach * math.sqrt(6 / n), reach * math.sqrt(24 / n))
    with style():
        if wide:
            figure, axes = panels(WIDE, 3.1, columns=2, apart=(LEFT, 0.0))
        else:
            figure, axes = panels(HALF, 3.1, rows=2, apart=(0.0, 0.15), sharex=True)
        names = ("skewness", "excess kurtosis")
        for ax, values, band, name in zip(axes.flat, skew_and_kurtosis(s), bands, names, strict=True):
            ax.axhspan(-band, band, color=MUTED, alpha=0.25, linewidth=0)
            ax.axhline(0, color=MUTED, linewidth=0.8)
            ax.scatter(
                np.arange(1, d + 1), values, s=float(np.clip(400 / d, 5, 30)), color=ACCENT, linewidths=0
            )
            ax.margins(y=0.2)
            plain(ax, y=name)
            ax.xaxis.get_major_locator().set_params(integer=True)
            if wide or ax is axes[1, 0]:
                ax.set_xlabel("coordinate", color=MUTED)
        return to_svg(figure, name="shape", alt=f"Skewness and excess kurtosis of each coordinate of {of}.")


def histogram(x: Floats, draws: Floats) -> str:
    """One coordinate: embeddings and draws from the law as histograms, both (n,)."""
    low, high = np.quantile(np.concatenate([x, draws]), [0.001, 0.999])
    edges = np.linspace(low, high, 41)
    with style():
        figure, ((ax,),) = panels(WIDE, 3.3)
        ax.stairs(
            np.histogram(x, bins=edges)[0], edges, fill=True, color=ACCENT, alpha=0.75, label="embeddings"
        )
        ax.stairs(
            np.histogram(draws, bins=edges)[0], edges, color=WARM, linewidth=1.6, label="draws from the law"
        )
        ax.legend(frameon=False, fontsize=8, labelcolor=MUTED)
        plain(ax, x="embedding", y="count")
        return to_svg(figure, name="histogram", alt="Histogram of the embeddings and of draws from the law.")
