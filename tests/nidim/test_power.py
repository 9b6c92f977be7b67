"""Calibration and power: every test keeps its level, departures are what they say, the table of both is made."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from nidim.cli import main
from nidim.pipeline import Hooks
from nidim.reproduce import figures, power, simulations
from nidim.reproduce.departures import BY_NAME, DEPARTURES, NONE
from nidim.reproduce.power import Rate, smallest_seen
from nidim.reproduce.simulations import EFFORT, TESTS, Simulation, Simulations, rejections
from nidim.reproduce.table import Row
from nidim.reproduce.tables import TABLES

ROUNDS, ROWS, DIMENSIONS = 40, 256, (2, 8, 32, 128)
BELOW = {"worst_slice", "shapiro", "dagostino", "anderson", "mardia_skewness"}
"""At most their level: Bonferroni, and a χ² law that is reached slowly."""


@functools.cache
def rejected_of_true_draws(d: int) -> dict[str, int]:
    """Of ROUNDS sets of true draws, how many each test rejects; critical values from 199 draws each."""
    counts: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(simulations, "EFFORT", dataclasses.replace(EFFORT, hz_null_sets=199, bhep_sets=199))
        for seed in range(ROUNDS):
            draws = NONE.draw(np.random.default_rng([seed, d]), ROWS, d, 0.0)
            for test, rejected in rejections(draws, seed=seed).items():
                counts[test] = counts.get(test, 0) + rejected
    return counts


def assert_at_its_level(test: str, count: int, rounds: int) -> None:
    level = stats.binom(rounds, 0.05)
    assert count <= level.ppf(0.9995), test
    assert count >= (0 if test in BELOW else level.ppf(0.0005)), test


@pytest.mark.slow
@pytest.mark.parametrize("d", DIMENSIONS)
def test_every_test_keeps_its_level_on_true_draws(d: int) -> None:
    counts = rejected_of_true_draws(d)
    impossible = {2: set(), 8: set(), 32: {"mardia_skewness"}, 128: {"mardia_skewness", "henze_zirkler"}}
    assert set(counts) == set(TESTS) - impossible[d]
    for test, count in counts.items():
        assert_at_its_level(test, count, ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("test", TESTS)
def test_over_all_dimensions_each_test_keeps_its_level_more_closely(test: str) -> None:
    found = [counts[test] for counts in map(rejected_of_true_draws, DIMENSIONS) if test in counts]
    assert_at_its_level(test, sum(found), ROUNDS * len(found))


DRAWS = 40_000


@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda departure: departure.name)
def test_a_departure_has_the_effect_that_it_names(departure) -> None:
    effect = departure.effects[-1]
    x = departure.draw(np.random.default_rng(0), DRAWS, 4, effect)
    assert x.shape == (DRAWS, 4)
    first = x[:, 0]
    measured = {
        "shift": lambda: first.mean(),
        "scale": lambda: x.std() - 1,
        "correlation": lambda: np.corrcoef(x, rowvar=False)[0, 1],
        "skewness": lambda: stats.skew(x).mean(),
        "mixture": lambda: np.abs(first).mean(),
        "hole": lambda: empty_share(x),
    }
    if departure.name in measured:
        assert measured[departure.name]() == pytest.approx(effect, rel=0.05, abs=0.01)
    if departure.name not in ("shift", "scale", "hole"):
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.03)
        np.testing.assert_allclose(x.var(axis=0), 1, atol=0.06)


def empty_share(x: np.ndarray) -> float:
    """What the ball about (1, 0, 0, 0) that holds no draw would hold of true draws."""
    centre = np.eye(x.shape[1])[0]
    radius2 = np.square(x - centre).sum(axis=1).min()
    true = NONE.draw(np.random.default_rng(1), DRAWS, x.shape[1], 0.0)
    return float((np.square(true - centre).sum(axis=1) < radius2).mean())


def test_heavy_tails_have_the_excess_kurtosis_that_they_name() -> None:
    """Where the eighth moment exists, so that a sample's kurtosis settles."""
    x = BY_NAME["kurtosis"].draw(np.random.default_rng(0), 200_000, 2, 0.25)
    assert stats.kurtosis(x).mean() == pytest.approx(0.25, abs=0.03)


def test_the_sheet_has_the_right_coordinates_and_too_few_dimensions() -> None:
    x = BY_NAME["sheet"].draw(np.random.default_rng(0), 5000, 2, 0.25)
    assert all(stats.kstest(column, "norm").pvalue > 0.01 for column in x.T)
    assert abs(np.corrcoef(x, rowvar=False)[0, 1]) < 0.05
    order = np.argsort(x[:, 0])
    assert np.median(np.abs(np.diff(x[order, 1]))) < 0.01, "the second coordinate follows the first"


def test_an_effect_is_seen_between_the_points() -> None:
    assert smallest_seen([(0.0, 0.05), (0.1, 0.3), (0.2, 0.8), (0.4, 1.0)]) == pytest.approx(0.2)
    assert smallest_seen([(0.0, 0.05), (0.1, 0.7), (0.2, 0.9)]) == pytest.approx(0.15)
    assert smallest_seen([(0.0, 0.05), (0.1, 0.79)]) is None


def test_the_interval_is_that_of_scipy() -> None:
    expected = stats.binomtest(7, 60).proportion_ci()
    assert Rate(7, 60).interval(0.95) == pytest.approx((expected.low, expected.high))
    assert Rate(0, 60).interval(0.95)[0] == 0
    assert Rate(60, 60).interval(0.95)[1] == 1


def row(**changes: object) -> Row:
    plan = {"n": 80, "dim": 2, "sets": 3, "departures": {"shift": [0.0, 5.0]}, **changes}
    return Row("x", ("80", "2"), plan, "simulated")


@pytest.fixture
def few_null_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of critical values from a tenth of the draws: for tests to which it does not matter how exact."""
    few = dataclasses.replace(EFFORT, hz_null_sets=50, bhep_sets=100)
    monkeypatch.setattr(simulations, "EFFORT", few)


@pytest.mark.usefixtures("few_null_sets")
def test_a_run_is_kept_and_found_by_its_settings(tmp_path: Path) -> None:
    told: list[float | None] = []
    store = Simulations(tmp_path)
    made = store.make(row(), 0, Hooks(on_phase=lambda name, fraction: told.append(fraction)))
    none, far = made["cells"]
    assert far["rejected"]["mean"] == far["rejected"]["ks"] == 3
    assert none["rejected"]["mean"] < 3
    assert set(none["rejected"]) == set(TESTS)
    assert told == [0.0, 0.5, 1.0]
    assert store.find(row(), 0) == made
    assert store.find(row(), 1) is None
    assert store.find(row(sets=4), 0) is None
    assert store.find(row(departures={"shift": [0.0, 4.0]}), 0) is None
    again = Simulations(tmp_path / "again").make(row(), 0, Hooks())
    assert again["cells"] == made["cells"]
    (tmp_path / "x-seed0.json").write_text("{")
    assert store.find(row(), 0) is None


@pytest.mark.parametrize("scale", ["small", "full"])
def test_every_row_can_be_simulated(scale: str) -> None:
    rows = power.rows(scale)
    assert len({found.name for found in rows}) == len(rows)
    plans = [Simulation.model_validate(dict(found.changes)) for found in rows]
    assert {plan.dim for plan in plans if "none" in plan.departures} == {2, 8, 32, 128}
    assert any((plan.n, plan.dim) == power.SHOWN and "sheet" in plan.departures for plan in plans)


def made_up(rates: dict[str, int], *, sets: int = 100, n: int = 1000, d: int = 8) -> list:
    """Runs in which each test rejects so many sets of every effect above the smallest."""
    runs = []
    for name, departures in (("true", (NONE,)), ("power", DEPARTURES)):
        cells = [
            {
                "departure": departure.name,
                "effect": effect,
                "rejected": {
                    t: 5 if departure is NONE or effect == departure.effects[0] else k
                    for t, k in rates.items()
                },
            }
            for departure in departures
            for effect in departure.effects
        ]
        settings = {"n": n, "dim": d, "sets": sets}
        made = {"processor": "P", "numpy": "1", "scipy": "2", "nidim": "3"}
        run = {"settings": settings, "cells": cells, "wall_s": 1.0, "provenance": made}
        runs.append((Row(name, ("1,000", "8"), settings, "simulated"), [run, run]))
    return runs


def test_the_page_says_in_words_what_a_test_sees() -> None:
    found = made_up({"covariance": 90, "energy": 10, "ks": 50})
    page = power.page(TABLES["power"], found, "nidim reproduce power")
    assert "A correlation of 0.1 between two coordinates is seen by Covariance in 90 % of the sets" in page
    assert "; in fewer than 15 % by Energy distance." in page
    assert "The least seen in 80 % of the sets is about 0.094, by Covariance." in page
    assert "Shares of 200 sets for each effect: one of 80 % is known to within 6 points" in page
    assert "| Covariance | 0.050 |" in page
    assert "| Kolmogorov–Smirnov | > 0.4 |" in page
    assert "- P, numpy 1, scipy 2, nidim 3" in page
    assert "    nidim reproduce power" in page
    values = power.values(TABLES["power"], found)
    assert {(v["departure"], v["effect"]) for v in values} >= {("none", 0.0), ("correlation", 0.1)}
    assert all(v["rejected"]["ks"][1] == 200 for v in values), "both seeds together"


def test_a_test_that_rejects_too_often_is_in_bold() -> None:
    found = made_up({"ks": 5, "mean": 5})
    found[0][1][0]["cells"][0]["rejected"]["mean"] = 25
    assert "| Mean | **0.250** |" in power.page(TABLES["power"], found, "")
    assert "| Kolmogorov–Smirnov | 0.050 |" in power.page(TABLES["power"], found, "")


def test_no_test_may_see_a_departure() -> None:
    page = power.page(TABLES["power"], made_up({"ks": 30, "mean": 20}), "")
    assert "No test sees a correlation of 0.4 between two coordinates in 80 % of the sets; " in page
    assert "Kolmogorov–Smirnov does in 30 %" in page


def test_the_figure_is_drawn_with_and_without_runs(tmp_path: Path) -> None:
    figures.power([], "small", tmp_path / "empty.png")
    figures.power(made_up({"ks": 30, "mean": 90}), "small", tmp_path / "drawn.png")
    empty, drawn = ((tmp_path / f"{name}.png").read_bytes() for name in ("empty", "drawn"))
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > len(empty)


@pytest.mark.usefixtures("few_null_sets")
def test_the_command_makes_the_table_in_pieces(tmp_path: Path) -> None:
    words = ["reproduce", "power", "--seeds", "1", "--out", str(tmp_path), "--set", "sets=2"]
    only = ["--only", "true-n1000-d2"]
    first = CliRunner().invoke(main, [*words, *only], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    page = (tmp_path / "power-small.md").read_text()
    assert "Share of 2 sets" in page
    assert "nidim reproduce power --scale small --seeds 1 --set sets=2" in page
    assert len(json.loads((tmp_path / "power-small.json").read_text())) == 1
    assert (tmp_path / "power-small.png").is_file()
    before = (tmp_path / "runs" / "power-small" / "true-n1000-d2-seed0.json").read_text()
    CliRunner().invoke(main, [*words, *only], catch_exceptions=False)
    assert (tmp_path / "runs" / "power-small" / "true-n1000-d2-seed0.json").read_text() == before
