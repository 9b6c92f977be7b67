"""Figures of tables: every row is in them with its spread, laws are drawn, names cover nothing."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nidim.reproduce.figures import style
from nidim.reproduce.table import Found, Row, Run
from nidim.reproduce.tables import TABLES

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SHOWN = {
    "tradeoff": ("HZ p", "MLP"),
    "targets": ("W1 / floor", "0.1 %", "0.1 % of draws", "99.9 %", "99.9 % of draws", "MLP"),
    "bounds": ("Î", "SW2 / floor", "MLP"),
    "plugins": ("SW2 / floor", "MLP"),
    "rivals": ("SW2 / floor", "linear"),
    "injection": ("HZ p", "SW2 / floor", "MLP"),
    "augmentation": ("Î", "HZ p", "SW2 / floor", "linear", "kNN", "MLP"),
    "scale": ("SW2 / floor", "of 1,000", "effective rank", "linear"),
    "separability": ("rejected",),
    "prior-gap": ("FD prior", "FD held-out", "FD floor", "prior gap", "above floor", "class"),
}
"""Columns whose means are coordinates of points, of every row."""
LISTED = [name for name in SHOWN if name not in ("tradeoff", "rivals")]
"""Whose points have bars, and whose names keep apart."""
FLOORS = ("0.1 % of draws", "99.9 % of draws", "FD floor")
"""Ticks without bars."""
CAPACITY, NULL, CHANCE, N = 3.26, 0.495, 0.1337, 359
LAWS = {
    "targets": (1.0, CHANCE),
    "bounds": (CAPACITY, 1.0, CHANCE),
    "plugins": (1.0,),
    "injection": (NULL, 1.0),
    "augmentation": (CHANCE, 1.0, NULL, CAPACITY),
    "scale": (1.0, 0.95, 64),
    "separability": (0.05,),
    "prior-gap": (1.0,),
}
"""What true draws show, and bounds: a line through all of a panel."""


@pytest.fixture(scope="module")
def saved() -> Iterator[list[Figure]]:
    """Figures that would have been written."""
    found: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **_: found.append(figure))
        yield found


@pytest.fixture(scope="module")
def figure_of(saved: list[Figure]) -> Callable[[str], Figure]:
    """``figure_of(name)``: that of the rows made up for a table, drawn once and read by many."""
    return functools.cache(lambda name: draw(name, made_up_rows(name), saved))


def made_up(rng: np.random.Generator, dim: int) -> Run:
    """A run with as much as figures read, no two numbers alike."""

    def pair(low: float, high: float) -> dict[str, float]:
        return {name: float(rng.uniform(low, high)) for name in ("value", "floor", "ratio")}

    report = {key: float(rng.uniform(0.2, 0.95)) for key in ("linear", "knn", "mlp", "hz_p", "hz_reject")}
    report |= {"mi_nats": float(rng.uniform(0, 3)), "sw2_ratio": float(rng.uniform(1.1, 9))}
    report |= {"capacity_nats": CAPACITY, "hz_p_null": NULL, "n_heldout": N, "dim": dim, "tested": "clean"}
    report["probes"] = {"chance": CHANCE}
    report["clean"] = {
        "own_scale": {key: pair(0, 1) for key in ("w1", "quantile_low", "quantile_high")},
        "fitted": {"dagostino": {"pass_share": 0.5, "pass_share_of_1000": float(rng.uniform(0, 1))}},
        "distances": {"effective_rank": pair(1, 60)},
    }
    fed = {name: {"frechet_distance": float(rng.uniform(9, 99))} for name in ("prior", "heldout")}
    fed["heldout"]["class_agreement"] = float(rng.uniform(0, 1))
    quality = {**fed, "floor": float(rng.uniform(2, 3)), "prior_gap": float(rng.uniform(1, 4))}
    return {"report": report, "quality": quality}


def made_up_rows(name: str, seeds: int = 2) -> list[tuple[Row, list[Run]]]:
    rng = np.random.default_rng(0)
    return [
        (row, [made_up(rng, row.changes.get("encoder", {}).get("dim", 2)) for _ in range(seeds)])
        for row in TABLES[name].rows("small")
    ]


def draw(name: str, found: Found, saved: list[Figure]) -> Figure:
    TABLES[name].figure(found, "small", Path("unwritten.png"))
    return saved[-1]


def coordinates(figure: Figure) -> np.ndarray:
    """Of all that is drawn as points or lines."""
    lines = [line for axes in figure.axes for line in axes.lines]
    return np.concatenate([np.ravel(line.get_data()).astype(float) for line in lines] or [np.empty(0)])


def ends_of_bars(figure: Figure) -> np.ndarray:
    bars = [bar for axes in figure.axes for bars in axes.collections for bar in bars.get_segments()]
    return np.concatenate([np.ravel(bar) for bar in bars] or [np.empty(0)])


def values(name: str, runs: list[Run]) -> dict[str, list[float]]:
    """Of the columns that are shown; by the columns themselves."""
    columns = {column.heading: column for column in TABLES[name].columns}
    return {heading: [columns[heading].value(run) for run in runs] for heading in SHOWN[name]}


def test_every_table_has_a_figure() -> None:
    assert all(table.figure for table in TABLES.values())
    assert {*SHOWN, "power", "predict"} == set(TABLES), "these have tests where their curves and rules have"


@pytest.mark.parametrize("name", SHOWN)
def test_every_row_is_in_the_figure(name: str, figure_of: Callable[[str], Figure]) -> None:
    drawn = coordinates(figure_of(name))
    for row, runs in made_up_rows(name):
        for heading, of_seeds in values(name, runs).items():
            assert np.isclose(drawn, statistics.fmean(of_seeds), rtol=1e-9).any(), f"{row.name}, {heading}"


@pytest.mark.parametrize("name", LISTED)
def test_bars_reach_from_the_lowest_seed_to_the_highest(
    name: str, saved: list[Figure], figure_of: Callable[[str], Figure]
) -> None:
    figure = figure_of(name)
    ends = ends_of_bars(figure)
    assert any("2 seeds" in text.get_text() for text in figure.texts)
    for row, runs in made_up_rows(name):
        for heading, of_seeds in values(name, runs).items():
            if heading not in FLOORS:
                assert np.isclose(ends, min(of_seeds), rtol=1e-9).any(), f"{row.name}, {heading}"
                assert np.isclose(ends, max(of_seeds), rtol=1e-9).any(), f"{row.name}, {heading}"
    one = draw(name, made_up_rows(name, seeds=1), saved)
    assert len(ends_of_bars(one)) == 0
    assert any("One seed." in text.get_text() for text in one.texts)


@pytest.mark.parametrize("name", LAWS)
def test_what_true_draws_show_is_drawn(name: str, figure_of: Callable[[str], Figure]) -> None:
    lines = [line for axes in figure_of(name).axes for line in axes.lines if line.get_linestyle() == ":"]
    at = [float(side[0]) for line in lines for side in line.get_data() if side[0] == side[1]]
    for law in LAWS[name]:
        assert np.isclose(at, law).any(), law


@pytest.mark.parametrize("name", SHOWN)
def test_rows_without_runs_leave_an_empty_figure(
    name: str, saved: list[Figure], figure_of: Callable[[str], Figure]
) -> None:
    rows = TABLES[name].rows("small")
    bare = draw(name, [(row, []) for row in rows], saved)
    full = figure_of(name)
    assert len(coordinates(bare)) < len(coordinates(full)) / 4
    named = [[text.get_text() for text in figure.axes[0].get_yticklabels()] for figure in (bare, full)]
    assert name not in ("targets", "bounds", "scale", "prior-gap") or len(named[0]) == 0 < len(named[1])


def test_errors_of_all_classifiers_are_drawn_over_what_was_done(figure_of: Callable[[str], Figure]) -> None:
    figure = figure_of("separability")
    by_name = {row.name: runs for row, runs in made_up_rows("separability")}
    spirals = figure.axes[1]
    rows = {0.0: "cones-2", **{twist: f"twist-{twist}-2" for twist in (0.1, 0.25, 0.5, 1.0)}}
    for key in ("linear", "knn", "mlp"):
        expected = [
            (twist, 1 - statistics.fmean(run["report"][key] for run in by_name[row]))
            for twist, row in rows.items()
        ]
        curves = [np.transpose(line.get_data()) for line in spirals.lines if len(line.get_xdata()) == 5]
        assert any(np.allclose(curve, expected) for curve in curves), key
    apart = figure.axes[2]
    before = statistics.fmean(run["report"]["hz_reject"] for run in by_name["blur-0.1-2"])
    assert any(np.allclose(line.get_xydata()[0], (0, before)) for line in apart.lines), (
        "blurred, not yet apart"
    )


def test_what_is_far_below_is_an_arrow_with_its_value(saved: list[Figure]) -> None:
    found = made_up_rows("bounds", seeds=1)
    found[0][1][0]["report"]["mi_nats"] = -193.52
    found[-1][1][0]["report"]["mi_nats"] = 9.0
    axes = draw("bounds", found, saved).axes[0]
    assert [text.get_text() for text in axes.texts] == ["−193.5"]
    assert axes.get_xlim()[0] == -1
    assert axes.get_xlim()[1] > 9, "later rows still count"
    found[0][1][0]["report"]["mi_nats"] = -0.9
    axes = draw("bounds", found, saved).axes[0]
    assert not axes.texts


def test_accuracies_that_have_no_order_yet_are_said_and_drawn(saved: list[Figure]) -> None:
    found = made_up_rows("injection", seeds=1)
    for _, runs in found:
        runs[0]["report"]["mlp"] = 0.9
    figure = draw("injection", found, saved)
    apart = 2 * (2 * 0.9 * 0.1 / N) ** 0.5
    assert any(f"less than {apart:.3f} apart" in text.get_text() for text in figure.texts)
    low, high = figure.axes[0].get_ylim()
    assert high - low >= 3.9 * apart, "differences of nothing do not fill the axis"
    assert low < 0.9 < high


def published(name: str, scale: str) -> list[tuple[Row, list[Run]]]:
    """Rows with the runs that are stored."""
    root = RESULTS / "runs" / f"{name}-{scale}"
    return [
        (row, [json.loads(path.read_text()) for path in sorted(root.glob(f"{row.name}-seed*.json"))])
        for row in TABLES[name].rows(scale)
    ]


def boxes(figure: Figure) -> list[tuple[str, Any]]:
    """Where every text stands."""
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [
            *axes.texts,
            *(text for text in axes.get_children() if text in (axes.title, axes._left_title)),
        ]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks()
            texts += [
                tick.label1 for tick in ticks if tick.label1.get_visible() and low <= tick.get_loc() <= high
            ]
            texts.append(axis.label)
    return [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text() and text.get_visible()
    ]


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.md")), ids=lambda page: page.stem)
def test_names_in_published_figures_cover_nothing(page: Path, saved: list[Figure]) -> None:
    name, _, scale = page.stem.rpartition("-")
    assert f"![{TABLES[name].title}]({page.stem}.png)" in page.read_text()
    if name not in LISTED:
        return
    TABLES[name].figure(published(name, scale), scale, Path("unwritten.png"))
    found = boxes(saved[-1])
    assert len(found) > 15
    for text, box in found:
        assert saved[-1].bbox.padded(1).contains(*box.min), text
        assert saved[-1].bbox.padded(1).contains(*box.max), text
    for (one, first), (other, second) in itertools.combinations(found, 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), f"{one} and {other}"


def test_labels_keep_off_points_and_one_another() -> None:
    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    at = [(0.5, 0.5), (0.52, 0.5), (0.5, 0.53)]
    style.labels(axes, [("first", *at[0], "k"), ("second", *at[1], "k"), ("third", *at[2], "k")], at)
    texts = [text.get_window_extent() for text in axes.texts]
    assert len(texts) == 3
    assert not any(one.overlaps(other) for one, other in itertools.combinations(texts, 2))
    for x, y in axes.transData.transform(at):
        assert not any(box.contains(x, y) for box in texts)


def test_a_method_of_which_one_end_is_there_has_a_point_and_no_arrow(
    saved: list[Figure], figure_of: Callable[[str], Figure]
) -> None:
    whole = figure_of("plugins").axes[0]
    rows = made_up_rows("plugins")
    half = [(row, [] if row.name == "simclr-plain" else runs) for row, runs in rows]
    less = draw("plugins", half, saved).axes[0]
    arrows = [
        sum(getattr(text, "arrow_patch", None) is not None for text in axes.texts) for axes in (whole, less)
    ]
    assert arrows[0] - arrows[1] == 1
    assert "SimCLR" in [text.get_text() for text in less.texts]


def test_a_point_is_of_all_seeds_or_not_there() -> None:
    both, one = [{"x": 1.0}, {"x": 3.0}], [{"x": 1.0}, {"x": None}]
    rows = [(Row(name, (name,), {}, "x"), runs) for name, runs in (("a", both), ("b", one))]
    assert style.spread(both, lambda run: run["x"]) == style.Spread(2.0, 1.0, 3.0)
    assert style.spread(one, lambda run: run["x"]) is None
    assert style.spread([], lambda run: run["x"]) is None
    assert style.mean(rows, lambda run: run["x"]) == 5 / 3
