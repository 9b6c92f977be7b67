"""Figures of what is compared a line a row: bounds, laws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nidim.reproduce.figures.lists import Dot, Line, Look, Panel, draw, gathered
from nidim.reproduce.figures.style import PALETTE, SW2, Mark, chance, mean, of, spread
from nidim.reproduce.table import Found, Row, Run, Scale, own_scale

CRITICS = {
    "separable": Mark("separable critic", PALETTE[0]),
    "bilinear": Mark("bilinear", PALETTE[1], marker="D"),
    "concatenated": Mark("concatenated", PALETTE[2], marker="s"),
}


def bounds(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Of each bound and critic Î beside the capacity, distance from the law, accuracy."""
    keys = ("mi_nats", "sw2_ratio", "mlp")
    lines = [
        Line(
            bound,
            [Dot(CRITICS[row.labels[1]], [spread(runs, of(key)) for key in keys]) for row, runs in rows],
        )
        for bound, rows in gathered(found, lambda row: row.labels[0]).items()
    ]
    panels = (
        Panel("Î on held-out pairs, nats\n(dotted: capacity C)", mean(found, of("capacity_nats")), low=-1.0),
        Panel(f"{SW2}\n(dotted: true draws)", 1.0),
        Panel("accuracy of an MLP\n(dotted: the most frequent class)", mean(found, chance)),
    )
    draw(lines, panels, found, path, Look(13, accuracy="mlp"))


LAWS = (
    own_scale("w1", "", "", part="ratio"),
    own_scale("quantile_low", "", ""),
    own_scale("quantile_high", "", ""),
)
DRAWS = (
    None,
    own_scale("quantile_low", "", "", part="floor"),
    own_scale("quantile_high", "", "", part="floor"),
)


def targets(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Of each law distance and errors of its outer quantiles, beside true draws, and accuracy; both dimensions."""
    dims = list(dict.fromkeys(row.labels[0] for row, _ in found))
    marks = {dim: Mark(f"d = {dim}", color) for dim, color in zip(dims, PALETTE, strict=False)}

    def dot(row: Row, runs: Sequence[Run]) -> Dot:
        values = [spread(runs, value) for value in (*(column.value for column in LAWS), of("mlp"))]
        floors = [None if column is None else spread(runs, column.value) for column in DRAWS]
        return Dot(marks[row.labels[0]], values, [*floors, None])

    lines = [
        Line("\n".join(dict.fromkeys(row.labels[1] for row, _ in rows)), [dot(*pair) for pair in rows])
        for rows in gathered(found, lambda row: row.name.rsplit("-", 1)[0]).values()
    ]
    panels = (
        Panel("Wasserstein-1 / floor\n(dotted: true draws)", 1.0),
        Panel("relative error of the 0.1 % quantile\n(ticks: true draws)"),
        Panel("relative error of the 99.9 % quantile\n(ticks: true draws)"),
        Panel("accuracy of an MLP\n(dotted: the most frequent class)", mean(found, chance)),
    )
    draw(lines, panels, found, path, Look(15, apart=0.3, accuracy="mlp"))
