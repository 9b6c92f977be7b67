"""The table ``predict``: can the trade-off be told before training?

What is known then: the capacity C of the channel, and the ceiling log B of InfoNCE in a batch of B. The rule, with six
numbers in all, found by least squares on some settings and tested on others:

    Î ≈ (C^{−p} + L^{−p})^{−1/p}, L = λ log B         a soft minimum of both limits
    log SW2 / floor ≈ a + b (C − Î)/d                 what the channel could carry and does not, a dimension
    MLP accuracy ≈ a + b Î                            use grows with what is carried
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from nidim.reproduce.table import DATASETS, INFORMATION, USE, Column, Found, Row, Run, Scale, Table, of_report

Floats = NDArray[np.float64]

SIGMAS = (0.1, 0.25, 0.6)
SETTINGS = ((2, 512), (8, 512), (4, 512), (16, 512), (2, 128), (8, 128))
"""(d, batch)."""
FOUND_ON = SETTINGS[:2]


def _rows(scale: Scale) -> Sequence[Row]:
    return [
        Row(
            f"d{dim}-b{batch}-s{sigma}",
            ("found" if (dim, batch) in FOUND_ON else "tested", str(dim), str(batch), f"{sigma:g}"),
            {
                "encoder": {"kind": "conv", "dim": dim},
                "method": {"kind": "infomax"},
                "noise": {"kind": "gaussian", "sigma": sigma},
                "regularizer": {"kind": "none"},
                "batch_size": batch,
            },
            DATASETS[scale],
        )
        for dim, batch in SETTINGS
        for sigma in SIGMAS
    ]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known before a training, and what came out, means over seeds."""

    found: bool
    dim: int
    capacity: float
    ceiling: float
    mi: float
    log_sw2: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Rule:
    """The six numbers: sharpness p, share λ, and (a, b) of either straight line."""

    sharpness: float
    share: float
    matching: tuple[float, float]
    use: tuple[float, float]

    def mi(self, s: Setting) -> float:
        """Î, nats."""
        return float(soft_minimum(s.capacity, self.share * s.ceiling, self.sharpness))

    def log_sw2(self, s: Setting) -> float:
        """log of SW2 over its floor."""
        a, b = self.matching
        return a + b * (s.capacity - self.mi(s)) / s.dim

    def accuracy(self, s: Setting) -> float:
        """Of an MLP."""
        a, b = self.use
        return a + b * self.mi(s)


def soft_minimum(a: Any, b: Any, sharpness: float) -> Any:
    """(a^{−p} + b^{−p})^{−1/p} for positive a, b: below both, the minimum as p → ∞."""
    low = np.minimum(a, b)
    return low * (1 + (low / np.maximum(a, b)) ** sharpness) ** (-1 / sharpness)


def find_rule(settings: Sequence[Setting]) -> Rule:
    """Least squares on ``settings``: Î first, then both lines from the predicted Î."""
    capacity, ceiling, mi = (
        np.array([getattr(s, name) for s in settings]) for name in ("capacity", "ceiling", "mi")
    )

    def misfit(log_values: Floats) -> Floats:
        sharpness, share = np.exp(log_values)
        return soft_minimum(capacity, share * ceiling, sharpness) - mi

    sharpness, share = np.exp(optimize.least_squares(misfit, np.log([3.0, 0.9])).x)
    partial = Rule(float(sharpness), float(share), (0, 0), (0, 0))
    predicted = np.array([partial.mi(s) for s in settings])
    gap = (capacity - predicted) / np.array([s.dim for s in settings])
    return dataclasses.replace(
        partial,
        matching=_line(gap, np.array([s.log_sw2 for s in settings])),
        use=_line(predicted, np.array([s.accuracy for s in settings])),
    )


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    b, a = np.polyfit(x, y, 1)
    return float(a), float(b)


def settings_of(found: Found) -> list[Setting]:
    """Of the rows that have runs with all figures: a quick evaluation has no MLP."""
    whole = [
        (row, [run for run in runs if None not in (run["report"]["mi_nats"], run["report"]["mlp"])])
        for row, runs in found
    ]
    return [_setting(row, runs) for row, runs in whole if runs]


def _setting(row: Row, runs: Sequence[Run]) -> Setting:
    def mean(key: str) -> float:
        return statistics.fmean(run["report"][key] for run in runs)

    return Setting(
        found=row.labels[0] == "found",
        dim=int(row.labels[1]),
        capacity=mean("capacity_nats"),
        ceiling=math.log(int(row.labels[2])),
        mi=mean("mi_nats"),
        log_sw2=statistics.fmean(math.log(run["report"]["sw2_ratio"]) for run in runs),
        accuracy=mean("mlp"),
    )


TOLD = 0.5
"""A figure is told before training if the rule errs at most this share of what one number for all settings errs."""
FIGURES = (("mi", "Î, nats"), ("log_sw2", "log SW2 / floor"), ("accuracy", "MLP accuracy"))


def _findings(found: Found) -> str:
    settings = settings_of(found)
    base, tested = [s for s in settings if s.found], [s for s in settings if not s.found]
    if len(base) < len(FOUND_ON) * len(SIGMAS) or not tested:
        return "The rule is found when all rows that it is found on have runs."
    rule = find_rule(base)
    lines = [
        f"The rule: Î ≈ (C^−p + L^−p)^(−1/p) with p = {rule.sharpness:.2f}, L = {rule.share:.2f} log B; "
        f"log SW2/floor ≈ {_formula(rule.matching)} (C − Î)/d; MLP ≈ {_formula(rule.use)} Î.",
        "",
        "| predicted before training | mean error, found | mean error, tested | that of the mean of what was found |",
        "|---|---|---|---|",
    ]
    told: list[str] = []
    rest: list[str] = []
    for name, title in FIGURES:
        usual = statistics.fmean(getattr(s, name) for s in base)
        own = statistics.fmean(abs(getattr(rule, name)(s) - getattr(s, name)) for s in base)
        new = statistics.fmean(abs(getattr(rule, name)(s) - getattr(s, name)) for s in tested)
        null = statistics.fmean(abs(usual - getattr(s, name)) for s in tested)
        lines.append(f"| {title} | {own:.3f} | {new:.3f} | {null:.3f} |")
        (told if new <= TOLD * null else rest).append(title)
    less = f"Told before training, with at most {TOLD:.0%} of the error of one number for all"
    return "\n".join([*lines, "", f"{less}: {_listed(told)}. Not: {_listed(rest)}."])


def _listed(titles: Sequence[str]) -> str:
    return "; ".join(titles) or "nothing"


def _formula(line: tuple[float, float]) -> str:
    a, b = line
    return f"{a:.2f} {'+' if b >= 0 else '−'} {abs(b):.2f}"


def _figure(found: Found, scale: Scale, path: Any) -> None:  # noqa: ARG001
    """Predicted against measured: Î, distance, accuracy."""
    from matplotlib.figure import Figure

    settings = settings_of(found)
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    base = [s for s in settings if s.found]
    rule = find_rule(base) if len(base) == len(FOUND_ON) * len(SIGMAS) else None
    for axes, (name, title) in zip(figure.subplots(1, len(FIGURES)), FIGURES, strict=True):
        axes.set_title(title)
        axes.set_xlabel("predicted before training")
        axes.set_ylabel("measured")
        for chosen, label, color in ((True, "found on", "#9aa3ad"), (False, "tested on", "#d6514f")):
            points = [s for s in settings if s.found is chosen]
            if rule is None or not points:
                continue
            axes.plot(
                [getattr(rule, name)(s) for s in points],
                [getattr(s, name) for s in points],
                "o",
                color=color,
                label=label,
            )
        if rule is not None and axes.lines:
            low, high = axes.get_xlim()
            axes.plot([low, high], [low, high], "-", color="black", linewidth=0.8)
            axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _gap(run: Run) -> float | None:
    found = run["report"]
    return None if found["mi_nats"] is None else (found["capacity_nats"] - found["mi_nats"]) / found["dim"]


PREDICT = Table(
    name="predict",
    title="Can the trade-off be told before training?",
    about="Noise alone, one stage. Known before: the capacity C and the batch B. A rule is found by least squares on "
    "the rows so named and tested on the others, other dimensions and another batch, which had no part in it.",
    headings=("rule", "d", "batch", "σ"),
    rows=_rows,
    columns=(
        *INFORMATION,
        of_report("sw2_ratio", "SW2 / floor", ".2f"),
        Column("(C − Î)/d", _gap, ".3f"),
        *USE,
    ),
    figure=_figure,
    findings=_findings,
)
