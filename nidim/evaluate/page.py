"""The report as one HTML file that stands alone: no script, no font, no picture from elsewhere.

Text and tables come from the report; the plots from a sample of the held-out embeddings, drawn as inline SVG in
the colours of the page, light or dark. Pictures are PNG data URIs.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image
from scipy import special

from nidim.evaluate import laws, plots, tables
from nidim.evaluate.report import Report
from nidim.evaluate.sentence import sentence
from nidim.priors import Prior

Floats = NDArray[np.float64]

_TEMPLATE = Path(__file__).with_name("report.html")
_DRAWS_SEED = 20
_CLASSES_IN_LEGEND = 10
_SIDE_SHOWN = 96
"""Twice what a picture has on the page: there are dozens, and a page of large ones would be megabytes."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """A plot with its heading and the sentence under it."""

    title: str
    svg: str
    caption: str
    wide: bool = False


def render(
    report: Report,
    *,
    title: str,
    history: Sequence[dict[str, Any]],
    embeddings: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
    prior: Prior,
    noisy: Prior,
    nearest: Sequence[NDArray[np.uint8]] | None = None,
    views: Sequence[NDArray[np.uint8]] | None = None,
    baseline: Report | None = None,
    classes: Sequence[str] | None = None,
) -> str:
    """The page.

    Arguments:
        report: of this encoder.
        title: the heading.
        history: of the training: dicts with ``epoch`` (or ``step``) and ``mi_nats``.
        embeddings: clean held-out embeddings (n, d), a few thousand are plenty.
        labels: their classes (n,), or None.
        prior: the law promised to f(X).
        noisy: the law promised to f(X)+Z.
        nearest: for each of a few prior draws, its nearest held-out images, uint8 (k, h, w, c), nearest first.
        views: of each of a few held-out images, itself and views of it as the training made them, (k, h, w, c).
        baseline: the report of the same encoder trained without noise.
        classes: names of the classes, for the legend.
    """
    shown = np.asarray(embeddings, dtype=np.float64)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        title=title,
        law=prior.name,
        report=report,
        sentence=sentence(report),
        keys=tables.key_figures(report),
        match=_match(report, shown, prior, noisy),
        plane=_plane(report, shown, labels, prior) if len(shown) else None,
        legend=_legend(labels, classes) if len(shown) else [],
        training=_training(report, history),
        nearest=[[png(image) for image in images] for images in nearest or ()],
        views=[[png(image) for image in images] for images in views or ()],
        head=tables.COMPARISON_HEAD,
        rows=_comparison(report, baseline),
        tested=_battery_tables(report.promised),
        beside=_battery_tables(report.clean if report.tested == "noisy" else None),
        clustering=report.clustering,
        target=report.target_fit,
        representation=tables.representation_rows(report),
        absent=report.absent,
        provenance=_flat(report.provenance),
    )


def _match(report: Report, x: Floats, prior: Prior, noisy: Prior) -> list[Panel]:
    """Plots of the embeddings that the promise is about, on normal scores."""
    law, name = prior, "clean embeddings"
    if report.tested == "noisy" and report.certificate is not None:
        law, name = noisy, "embeddings with noise"
        epsilon = report.certificate.epsilon
        added = laws.noisy_embeddings(x, prior, sigma=None, epsilon=epsilon, seed=report.seed)
        x = x if added is None else added
    if len(x) < 20:
        return []
    s, _ = laws.finite_scores(x, law)
    panels = [_qq(s, prior, shown=f"{len(s):,} {name}", of=name)]
    if s.shape[1] > 1:
        panels.append(_projections(s, of=name))
    panels += [_outliers(s, of=name), *_protocol(report)]
    odd = sum(not p.wide for p in panels) % 2 == 0  # then the last panel takes a whole row
    return [*panels, _shape(s, of=name, wide=odd)]


def _qq(s: Floats, prior: Prior, *, shown: str, of: str) -> Panel:
    scores = "" if prior.kind == "gaussian" else f", carried to N(0, 1) {prior.scores_by}"
    caption = (
        f"Quantiles of {shown}{scores}, against those of N(0, 1). The gray band holds 95 % of all sets of as many "
        "true draws as a whole: a line that leaves it anywhere is a mismatch."
    )
    return Panel("Coordinate by coordinate", plots.qq_coordinates(s, of=of), caption, wide=s.shape[1] > 2)


def _projections(s: Floats, *, of: str) -> Panel:
    caption = (
        "The same for 20 random directions at once. Many directions look normal even when the embedding is not, so "
        "this is a weak test in high dimension."
    )
    return Panel("Random projections", plots.qq_projections(s, of=of), caption)


def _outliers(s: Floats, *, of: str) -> Panel:
    p = special.chdtrc(s.shape[1], np.square(s).sum(axis=1))
    caption = (
        "P(χ² ≥ squared norm) of each embedding: flat, within the band, under the law, so that a small p-value means "
        "what it says."
    )
    return Panel("Outlier scores", plots.p_values(p, of=of), caption)


def _shape(s: Floats, *, of: str, wide: bool) -> Panel:
    caption = "Skewness and excess kurtosis are 0 under the law; the band holds 95 % of sets of true draws."
    return Panel(
        "Third and fourth moments", plots.shape_by_coordinate(s, of=of, wide=wide), caption, wide=wide
    )


def _protocol(report: Report) -> list[Panel]:
    hz = report.promised.fitted.henze_zirkler if report.promised else None
    if hz is None:
        return []
    caption = (
        f"p of {hz.subsamples:,} random subsamples of {hz.size}, moments fitted. True draws are not flat either when d "
        "is large: compare with the outline."
    )
    return [Panel("Henze–Zirkler, many small tests", plots.hz_histogram(hz), caption)]


def _plane(report: Report, x: Floats, labels: NDArray[np.integer] | None, prior: Prior) -> Panel:
    """The embeddings beside draws from the law, in the law's own scale."""
    draws = prior.sample(len(x), seed=_DRAWS_SEED).astype(np.float64)
    if prior.dim == 1:
        svg = plots.histogram(x[:, 0], draws[:, 0])
        return Panel("Beside the law", svg, "Embeddings and as many draws from the law.", wide=True)
    axes_are, what = ("coordinate 1", "coordinate 2"), "Both coordinates"
    if prior.dim > 2:
        a, share = principal_plane(x)
        x, draws = x @ a, draws @ a
        axes_are = ("first principal direction", "second principal direction")
        what = f"The two principal directions of the embeddings ({100 * share:.0f} % of their variance)"
    colours = "" if labels is None else " Coloured by class; the encoder never saw a class."
    beside = "the right panel shows as many draws from the law on the same axes"
    if report.tested == "noisy":
        beside += (
            " (this construction promises its law to the embedding with noise, not to the clean one shown)"
        )
    svg = plots.scatter(x, draws, labels, axes_are=axes_are)
    return Panel("Beside the law", svg, f"{what}; {beside}.{colours}", wide=True)


def principal_plane(x: Floats) -> tuple[Floats, float]:
    """The two directions of largest variance of ``x`` (n, d), (d, 2), and their share of the variance; of one row 0."""
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, ddof=0))
    total = values.sum()
    return vectors[:, [-1, -2]], float(values[-2:].sum() / total) if total > 0 else 0.0


def _legend(labels: NDArray[np.integer] | None, classes: Sequence[str] | None) -> list[tuple[str, str]]:
    """(colour, class) of the classes shown; nothing when there are more than colours."""
    if labels is None:
        return []
    present = np.unique(labels)
    if len(present) > _CLASSES_IN_LEGEND or present.max() >= len(plots.CLASS_COLOURS):
        return []
    names = [classes[c] if classes and c < len(classes) else str(c) for c in present]
    return [(plots.CLASS_COLOURS[c], name) for c, name in zip(present, names, strict=True)]


def _training(report: Report, history: Sequence[dict[str, Any]]) -> Panel | None:
    ceiling = math.log(report.batch_size) if report.batch_size and report.batch_size > 1 else None
    capacity = report.capacity_nats if report.trained_with_noise else None
    svg = plots.training_curve(history, capacity_nats=capacity, ceiling_nats=ceiling)
    if svg is None:
        return None
    caption = "Î, the trained lower bound on the information. "
    if capacity is not None:
        caption += "The channel cannot carry more than its capacity C; "
    caption += "a sample bound cannot show more than the log of the batch."
    return Panel("Information over the training", svg, caption, wide=True)


def _comparison(report: Report, baseline: Report | None) -> list[tuple[str, ...]]:
    rows = [tables.comparison_row("this encoder", report)]
    if baseline is not None:
        rows.append(tables.comparison_row("the same, trained without noise", baseline))
    return rows


def _battery_tables(battery: Any) -> dict[str, Any] | None:
    if battery is None:
        return None
    return {
        "name": f"{battery.embeddings} embeddings against {battery.law}",
        "battery": battery,
        "simple": tables.simple_rows(battery),
        "fitted": tables.fitted_rows(battery),
        "distances": tables.distance_rows(battery),
    }


def png(image: NDArray[np.uint8]) -> str:
    """A uint8 image (h, w) or (h, w, c) as a PNG data URI, of ``_SIDE_SHOWN`` pixels a side at most."""
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_SIDE_SHOWN, _SIDE_SHOWN))
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "–" if value is None else str(value)))
    return rows
