"""Tables of experiments: what is there is not made again, what changed is, laws of one latent share a training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from nidim.cli import main
from nidim.evaluate import Embedded
from nidim.reproduce import command, posthoc, runs
from nidim.reproduce.table import Row, spread
from nidim.reproduce.tables import TABLES

QUICK = ("--set", "epochs=2", "--set", "encoder.width=4", "--set", "evaluation=quick")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of the priors that were trained for."""
    kinds: list[str] = []
    fit = runs.fit_in_stages

    def counted(spec, *args, **values):
        kinds.append(spec.prior.kind)
        return fit(spec, *args, **values)

    monkeypatch.setattr(runs, "fit_in_stages", counted)
    return kinds


def reproduce(*words: object) -> str:
    result = CliRunner().invoke(main, ["reproduce", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_table_is_made_in_pieces_and_nothing_twice(tmp_path: Path, trained: list[str]) -> None:
    words = ("targets", "--seeds", 1, "--out", tmp_path, *QUICK)
    reproduce(*words, "--only", "gaussian-2", "--only", "exponential-2")
    assert trained == ["gaussian"], "both laws are maps of the same latent"
    page = (tmp_path / "targets-small.md").read_text()
    line = next(line for line in page.splitlines() if "exponential" in line)
    assert line.startswith("| 2 | exponential | 1 |")
    assert "nidim reproduce targets --scale small --seeds 1 --set epochs=2" in page
    assert next(line for line in page.splitlines() if "Laplace" in line).count("–") > 5, "not made yet"
    figures = {row["row"]: row for row in json.loads((tmp_path / "targets-small.json").read_text())}
    assert figures["exponential-2"]["seeds"] == [0]
    assert figures["exponential-2"]["figures"]["log p of draws"][0] == pytest.approx(-1, abs=0.1)
    assert figures["laplace-2"]["seeds"] == []
    reproduce(*words, "--only", "gaussian-2", "--only", "exponential-2")
    assert len(trained) == 1, "nothing is trained twice"
    reproduce(*words, "--only", "gaussian-2", "--set", "epochs=1")
    assert len(trained) == 2, "another spec is another run"
    before = (tmp_path / "targets-small.json").read_text()
    reproduce(*words, "--set", "epochs=1", "--write-only")
    assert len(trained) == 2
    assert (tmp_path / "targets-small.json").read_text() == before


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    words = ("tradeoff", "--seeds", 1, "--out", tmp_path, *QUICK, "--set", "evaluation=full")
    reproduce(*words, "--write-only")
    empty = (tmp_path / "tradeoff-small.png").read_bytes()
    reproduce(*words, "--only", "gaussian-0.200")
    drawn = (tmp_path / "tradeoff-small.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > len(empty)
    assert "![" in (tmp_path / "tradeoff-small.md").read_text()


def test_maps_that_come_afterwards_are_fitted_to_training_embeddings(
    tmp_path: Path, trained: list[str]
) -> None:
    names = ("plain", "whitening", "quantiles")
    only = [word for name in names for word in ("--only", f"{name}-2")]
    reproduce("rivals", "--seeds", 1, "--out", tmp_path, *QUICK, *only)
    assert len(trained) == 1, "one encoder, three maps"
    stored = json.loads((tmp_path / "rivals-small.json").read_text())
    figures = {row["row"]: row["figures"]["SW2 / floor"] for row in stored}
    assert len({figures[f"{name}-2"][0] for name in names}) == 3
    assert (tmp_path / "rivals-small.png").is_file()


def test_whitening_and_quantiles() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(2, size=(3000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]])
    split = Embedded(train=x[:2000], train_labels=None, test=x[2000:], test_labels=None)
    white = posthoc.applied("whitening", split)
    np.testing.assert_allclose(np.cov(white.train, rowvar=False), np.eye(2), atol=1e-4)
    assert abs(np.cov(white.test, rowvar=False) - np.eye(2)).max() < 0.2
    normal = posthoc.applied("quantiles", split)
    assert stats.kstest(normal.test[:, 0], "norm").pvalue > 0.01
    assert abs(np.corrcoef(normal.test, rowvar=False)[0, 1]) > 0.3, "each coordinate for itself"
    assert posthoc.applied(None, split) is split


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "bounds", "--only", "magic", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "infonce-separable" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scale", ["small", "full"])
def test_every_row_is_a_spec(name: str, scale: str, real_data: Path, tmp_path: Path) -> None:
    rows = TABLES[name].rows(scale)
    assert len({row.name for row in rows}) == len(rows)
    store = runs.Runs(tmp_path, datasets_dir=real_data / "torchvision")
    digests = set()
    for row in rows:
        method = store._spec(row, 0).method
        assert name == "targets" or method.kind != "infomax" or not method.neighbors, (
            "rows differ in one thing"
        )
        assert len(row.labels) == len(TABLES[name].headings)
        digests.add((store._spec(row, 0).digest, row.posthoc))
    assert len(digests) == len(rows), "two rows are the same"


def test_the_names_are_those_of_the_tables() -> None:
    assert tuple(TABLES) == command.NAMES


def test_spread() -> None:
    assert spread([1.0, None, 3.0], ".1f") == "2.0 ± 1.4"
    assert spread([2.0], ".1f") == "2.0"
    assert spread([None], ".1f") == "–"


def test_the_peak_is_that_of_one_run() -> None:
    runs.reset_peak()
    before = runs.peak_mb()
    block = bytearray(200_000_000)
    assert runs.peak_mb() > before + 150
    del block
    runs.reset_peak()
    assert runs.peak_mb() < before + 100
    assert math.isfinite(before)


def test_a_damaged_file_is_no_run(tmp_path: Path) -> None:
    row = Row("x", (), {}, "digits")
    store = runs.Runs(tmp_path, datasets_dir=None)
    (tmp_path / "x-seed0.json").write_text("{")
    assert store.find(row, 0) is None
    (tmp_path / "x-seed0.json").write_text('{"format": 0}')
    assert store.find(row, 0) is None
