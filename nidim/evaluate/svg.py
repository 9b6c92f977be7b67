"""A matplotlib figure as inline SVG that takes its colours and its font from the page around it.

Figures are drawn in placeholder colours (:data:`COLOURS`), which become CSS variables in the SVG, so one
drawing serves light and dark. Only ``Figure`` objects, no pyplot: nothing global is left behind.
"""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = {
    "ink": "#010203",
    "muted": "#010204",
    "line": "#010205",
    "accent": "#010206",
    "warm": "#010207",
}
"""Placeholder of each CSS variable ``--name``."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "font.family": ["DejaVu Sans"],
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.unicode_minus": True,
}
LEFT, RIGHT, BOTTOM, TOP, TITLE = 0.72, 0.1, 0.5, 0.12, 0.2
"""Inches around the axes: for ticks, labels and, if there is one, a title."""
_LOCK = threading.Lock()  # rcParams are the one global that the SVG backend reads


@contextmanager
def style() -> Iterator[None]:
    """Our settings of matplotlib for the time of one drawing."""
    with _LOCK, matplotlib.rc_context(_STYLE):
        yield


def panels(
    width: float,
    height: float,
    *,
    rows: int = 1,
    columns: int = 1,
    apart: tuple[float, float] = (0.0, 0.0),
    titles: bool = False,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, NDArray[Any]]:
    """A figure of so many inches and its axes (rows, columns); ``apart``: inches between columns and between rows.

    The margins are fixed: a layout engine measures every text twice, for a fifth of the time.
    """
    figure = Figure(figsize=(width, height))
    across, down = apart[0], apart[1] + (TITLE if titles else 0.0)
    top = TOP + (TITLE if titles else 0.0)
    wide = (width - LEFT - RIGHT - across * (columns - 1)) / columns
    high = (height - top - BOTTOM - down * (rows - 1)) / rows
    figure.subplots_adjust(
        left=LEFT / width,
        right=1 - RIGHT / width,
        bottom=BOTTOM / height,
        top=1 - top / height,
        wspace=across / wide,
        hspace=down / high,
    )
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


def plain(ax: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """The look of every plot: two thin axes, muted ticks, labels in the page's ink."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(COLOURS["line"])
    ax.tick_params(colors=COLOURS["muted"], labelcolor=COLOURS["muted"], width=0.8, length=3, labelsize=8)
    ax.set_xlabel(x, color=COLOURS["muted"])
    ax.set_ylabel(y, color=COLOURS["muted"])
    if title:
        ax.set_title(title, color=COLOURS["ink"], fontsize=9, loc="left")


def to_svg(figure: Figure, *, name: str, alt: str) -> str:
    """``figure`` as one <svg> element with text as text; ``name`` keeps its ids apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href=")#([^"]+)"', rf'\1#{name}-\2"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 var(--font)", text)
    return re.sub(r"<svg [^>]*>", lambda match: _open_tag(match.group(0), alt), text, count=1).strip()


def _open_tag(tag: str, alt: str) -> str:
    box = re.search(r'viewBox="[^"]+"', tag)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} {box.group(0) if box else ""} role="img" aria-label="{html.escape(alt)}">'
