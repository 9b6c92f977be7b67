"""What is asked of a law in its own scale, and which rows of the table have it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from nidim.reproduce.pareto import resolution
from nidim.reproduce.table import Column, Found, Row, Run, own_scale

MOST_W1, MOST_QUANTILE, MOST_POINTS = 2.0, 0.05, 1.0
ACCURACIES = {"linear": "a linear probe", "knn": "kNN", "mlp": "an MLP"}
GAUSSIAN = "N(0, 1)"
WHY = (
    "Why accuracy differs though the latent is one: neighbours and an MLP can undo the map to a law, lines cannot, and "
    "the circle (the sphere of d = 2) has a single dimension. Why quantiles do: the far thousandth of a few hundred "
    "images is a handful of values, which true draws miss, too."
)

_W1 = own_scale("w1", "", "", part="ratio")
_QUANTILES = [
    (own_scale(key, "", ""), own_scale(key, "", "", part="floor"))
    for key in ("quantile_low", "quantile_high")
]


def findings(found: Found) -> str:
    """The three questions, each with its answer over all rows."""
    made = [(row, runs) for row, runs in found if runs]
    if not made:
        return ""
    lines = [
        f"Asked of each law: W1 at most {MOST_W1:g} × its floor, both quantiles within {100 * MOST_QUANTILE:g} %, "
        f"accuracy within {MOST_POINTS:g} point of that of {GAUSSIAN}; of means over the seeds:",
        "",
        f"- W1: {_w1(made)}.",
        f"- Quantiles: {_quantiles(made)}.",
        *(f"- Accuracy of {title}: {_accuracy(made, key)}." for key, title in ACCURACIES.items()),
        "",
        WHY,
    ]
    if (known := resolution(made, "mlp")) is not None:
        lines[-1] += f" Accuracies less than {100 * known.apart:.1f} points apart have no order yet."
    return "\n".join(lines)


def _mean(runs: Sequence[Run], value: Callable[[Run], float | None]) -> float:
    return statistics.fmean(found for found in map(value, runs) if found is not None)


def _named(row: Row) -> str:
    return f"{row.labels[1]} at d = {row.labels[0]}"


def _of(rows: Sequence[Row], every: int) -> str:
    return f"all {every}" if len(rows) == every else f"{len(rows)} of {every}"


def _w1(made: Found) -> str:
    good = [row for row, runs in made if _mean(runs, _W1.value) <= MOST_W1]
    bad = [_named(row) for row, _ in made if row not in good]
    return f"met by {_of(good, len(made))}" + (f", not by {', '.join(bad)}" if bad else "")


def _quantiles(made: Found) -> str:
    def met(runs: Sequence[Run], which: int) -> bool:
        columns: list[Column] = [pair[which] for pair in _QUANTILES]
        return all(_mean(runs, column.value) <= MOST_QUANTILE for column in columns)

    good = [row for row, runs in made if met(runs, 0)]
    others = [(row, runs) for row, runs in made if row not in good]
    draws = [row for row, runs in others if not met(runs, 1)]
    text = f"met by {_of(good, len(made))}"
    if draws:
        text += f"; of the other {len(others)}, as many true draws miss it in {_of(draws, len(others))}"
    own = [_named(row) for row, _ in others if row not in draws]
    return text + (f"; missed where true draws have it by {', '.join(own)}" if own else "")


def _accuracy(made: Found, key: str) -> str:
    def value(run: Run) -> float | None:
        found: float | None = run["report"][key]
        return found

    made = [(row, runs) for row, runs in made if any(value(run) is not None for run in runs)]
    if not made:
        return "not measured"
    gaussian = {row.labels[0]: _mean(runs, value) for row, runs in made if row.labels[1] == GAUSSIAN}
    lost = {
        _named(row): 100 * (_mean(runs, value) - gaussian[row.labels[0]])
        for row, runs in made
        if row.labels[0] in gaussian and row.labels[1] != GAUSSIAN
    }
    bad = sorted((points, name) for name, points in lost.items() if points < -MOST_POINTS)
    if not bad:
        return f"met by all {len(lost)}"
    return f"met by {len(lost) - len(bad)} of {len(lost)}, not by " + ", ".join(
        f"{name} ({points:+.1f})".replace("-", "−") for points, name in bad
    )
