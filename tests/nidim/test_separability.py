"""What is simulated has the law that is claimed, and classes of the shape that is claimed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from nidim.cli import main
from nidim.reproduce import separability
from nidim.reproduce.separability import CLASSES, Shape, directions, draw


def shape(dim: int, **values: float) -> Shape:
    return Shape.model_validate({"dim": dim, "train": 100, "test": 100, **values})


@pytest.mark.parametrize("dim", [2, 9, 16])
def test_directions_are_as_far_apart_as_they_can_be(dim: int) -> None:
    w = directions(dim)
    assert w.shape == (CLASSES, dim)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1)
    nearest = np.sort(w @ w.T, axis=1)[:, -2]
    np.testing.assert_allclose(
        nearest, np.cos(2 * np.pi / CLASSES) if dim == 2 else -1 / (CLASSES - 1), atol=1e-12
    )


@pytest.mark.parametrize("dim", [2, 16])
@pytest.mark.parametrize("values", [{}, {"blur": 0.3}, {"twist": 0.7}, {"blur": 0.1, "twist": 0.25}])
def test_without_a_gap_the_law_is_kept(dim: int, values: dict[str, float]) -> None:
    n = 20_000
    x, classes = draw(np.random.default_rng(1), shape(dim, **values), n)
    assert stats.kstest(np.square(x).sum(axis=1), stats.chi2(dim).cdf).pvalue > 1e-3
    for axis in np.random.default_rng(2).standard_normal((5, dim)):
        assert stats.kstest(x @ axis / np.linalg.norm(axis), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(x, rowvar=False), np.eye(dim), atol=0.06)
    assert stats.chisquare(np.bincount(classes, minlength=CLASSES)).pvalue > 1e-3


def test_a_gap_breaks_the_law_and_keeps_the_moments() -> None:
    x, _ = draw(np.random.default_rng(1), shape(2, gap=2.0), 20_000)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1)
    assert stats.kstest(np.square(x).sum(axis=1), stats.chi2(2).cdf).pvalue < 1e-6


def test_a_twist_moves_nobody_nearer_or_farther() -> None:
    """And nobody at all at the centre; τ = 1 turns what is far out once around."""
    x = np.array([[1e-9, 0.0], [0.0, 1.0], [30.0, 0.0]])
    turned = separability._twisted(x, 0.25)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1))
    np.testing.assert_allclose(turned[0], x[0], atol=1e-12)
    np.testing.assert_allclose(turned[2], [0.0, 30.0], atol=1e-9)
    np.testing.assert_allclose(separability._twisted(x, 1.0)[2], x[2], atol=1e-9)


def test_the_table_is_made_kept_and_read_again(tmp_path: Path) -> None:
    rows = ["cones-2", "blur-0.1-2", "gap-0.5-2", "twist-0.5-2"]
    command = ["reproduce", "separability", "--seeds", "1", "--set", "train=3000", "--set", "test=1000"]
    only = [word for row in rows for word in ("--only", row)]
    made = CliRunner().invoke(main, [*command, *only, "--out", str(tmp_path)])
    assert made.exit_code == 0, made.output
    values = {
        row["row"]: row["figures"] for row in json.loads((tmp_path / "separability-small.json").read_text())
    }
    linear = {row: values[row]["linear"][0] for row in rows}
    mlp = {row: values[row]["MLP"][0] for row in rows}
    assert linear["cones-2"] > 0.95
    assert abs(linear["blur-0.1-2"] - mlp["blur-0.1-2"]) < 0.05
    assert mlp["twist-0.5-2"] - linear["twist-0.5-2"] > 0.4
    assert values["gap-0.5-2"]["SW2 / floor"][0] > 1.2 > values["twist-0.5-2"]["SW2 / floor"][0] - 0.4
    page = (tmp_path / "separability-small.md").read_text()
    assert "costs a linear classifier nothing" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-seed0.json")}
    assert len(before) == len(rows)
    again = CliRunner().invoke(main, [*command, *only, "--out", str(tmp_path)])
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-seed0.json")} == before
    other = CliRunner().invoke(main, ["reproduce", "separability", "--write-only", "--out", str(tmp_path)])
    assert "costs a linear classifier nothing" not in other.output, (
        "runs of other settings are no runs of this table"
    )
