"""Tables of experiments: what is there is not made again, what changed is, laws of one latent share a training."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import mmap
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from nidim import flow, machine
from nidim.cli import main
from nidim.errors import DataError
from nidim.evaluate import Embedded
from nidim.pipeline import Hooks
from nidim.reproduce import asked, command, pareto, posthoc, predict, prior_gap, runs, sets
from nidim.reproduce.table import Column, Posthoc, Row, Sources, markdown, of_report, spread
from nidim.reproduce.tables import TABLES
from nidim.spec import DatasetFacts
from tests.nidim.samples import arc

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


def reproduce(*words: object, told: bool = False) -> str:
    """What the command writes; ``told``: with what it tells on standard error."""
    result = CliRunner().invoke(main, ["reproduce", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output if told else result.stdout


def test_a_table_is_made_in_pieces_and_nothing_twice(tmp_path: Path, trained: list[str]) -> None:
    words = ("targets", "--seeds", 1, "--out", tmp_path, *QUICK)
    reproduce(*words, "--only", "gaussian-2", "--only", "exponential-2")
    assert trained == ["gaussian"], "both laws are maps of the same latent"
    page = (tmp_path / "targets-small.md").read_text()
    line = next(line for line in page.splitlines() if "exponential" in line)
    assert line.startswith("| 2 | exponential | 1 |")
    assert "nidim reproduce targets --scale small --seeds 1 --set epochs=2" in page
    assert "--datasets-dir" not in page, "digits need none"
    assert "Laplace" not in page, "a row of dashes says nothing"
    waiting = next(line for line in page.splitlines() if line.startswith("Not made yet: "))
    names = {row.name for row in TABLES["targets"].rows("small")} - {"gaussian-2", "exponential-2"}
    assert set(waiting.removeprefix("Not made yet: ").rstrip(".").split(", ")) == names
    figures = {row["row"]: row for row in json.loads((tmp_path / "targets-small.json").read_text())}
    assert figures["exponential-2"]["seeds"] == [0]
    assert figures["exponential-2"]["figures"]["log p of draws"][0] == pytest.approx(-1, abs=0.1)
    assert figures["laplace-2"]["seeds"] == []
    reproduce(*words, "--only", "gaussian-2", "--only", "exponential-2")
    assert len(trained) == 1, "nothing is trained twice"
    reproduce(*words, "--only", "gaussian-2", "--set", "epochs=1")
    assert len(trained) == 2, "another spec is another run"
    before = (tmp_path / "targets-small.json").read_text()
    page = reproduce("targets", "--out", tmp_path, *QUICK, "--set", "epochs=1", "--write-only")
    assert "--seeds 1 --set" in page, "as many as there are, not as many as could have been"
    assert len(trained) == 2
    assert (tmp_path / "targets-small.json").read_text() == before
    told = json.loads(
        reproduce(
            "targets", "--seeds", 2, "--out", tmp_path, *QUICK, "--set", "epochs=1", "--write-only", "--json"
        )
    )
    assert (told["table"], told["scale"]) == ("targets", "small")
    paths = [str(tmp_path / f"targets-small.{ending}") for ending in ("md", "json", "png")]
    assert [told["page"], told["values"], told["figure"]] == paths
    of_first = {run["row"] for run in told["missing"] if run["seed"] == 0}
    assert of_first == names | {"exponential-2"} - {"gaussian-2"}
    assert {run["row"] for run in told["missing"] if run["seed"] == 1} == of_first | {"gaussian-2"}


def test_a_trial_goes_beside_the_stored_page_and_the_command_of_a_page_goes_onto_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("separability", "--seeds", 1, "--only", "cones-2", "--set", "train=100")
    first, other = ("--set", "test=100"), ("--set", "test=101")
    told = reproduce(*words, *first, told=True)
    assert "Writing to reproduce-trial; --out chooses another place." in told
    assert not (tmp_path / "docs").exists()
    stored, trial = (Path(place, "separability-small.md") for place in ("docs/results", "reproduce-trial"))
    reproduce(*words, *first, "--out", "docs/results")
    run = stored.parent / "runs" / "separability-small" / "cones-2-seed0.json"
    before = stored.read_bytes(), run.read_bytes()
    trial.unlink()
    told = reproduce(*words, *other, told=True)
    assert "since docs/results/separability-small.md was made with --set train=100 --set test=100;" in told
    assert (stored.read_bytes(), run.read_bytes()) == before
    trial.unlink()
    assert "reproduce-trial" not in reproduce(*words, *first, told=True)
    assert (stored.read_bytes(), run.read_bytes()) == before
    assert not trial.exists()


def test_the_changes_of_every_stored_page_are_read() -> None:
    pages = Path(__file__).parents[2] / "docs" / "results"
    read = {page.stem: command._changes_of(page.read_text()) for page in pages.glob("*.md")}
    assert {name: changes for name, changes in read.items() if changes} == {
        "prior-gap-small": ("epochs=160", "generator.epochs=64")
    }
    spec = 'encoder={"kind": "conv", "dim": 3}'
    assert command._changes_of(f"Made by\n\n    nidim reproduce bounds --set {shlex.quote(spec)}") == (spec,)


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    words = ("tradeoff", "--seeds", 1, "--out", tmp_path, *QUICK, "--set", "evaluation=full")
    nothing = CliRunner().invoke(main, ["reproduce", *map(str, words), "--write-only"])
    assert (nothing.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "No run of tradeoff is stored" in nothing.output
    told = json.loads(reproduce(*words, "--only", "gaussian-0.050", "--json"))
    assert told["figure"] == str(tmp_path / "tradeoff-small.png")
    first = (tmp_path / "tradeoff-small.png").read_bytes()
    reproduce(*words, "--only", "gaussian-0.200")
    drawn = (tmp_path / "tradeoff-small.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn != first
    assert "![" in (tmp_path / "tradeoff-small.md").read_text()


def test_maps_that_come_afterwards_are_fitted_to_training_embeddings(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "MOST_STEPS", 50)
    names = ("plain", "whitening", "quantiles", "flow")
    only = [word for name in names for word in ("--only", f"{name}-2")]
    reproduce("rivals", "--seeds", 1, "--out", tmp_path, *QUICK, *only)
    assert len(trained) == 1, "one encoder, all maps"
    stored = json.loads((tmp_path / "rivals-small.json").read_text())
    figures = {row["row"]: row["figures"]["SW2 / floor"] for row in stored}
    assert len({figures[f"{name}-2"][0] for name in names}) == len(names)
    ranks = {row["row"]: row["figures"]["RankMe"] for row in stored}
    assert all(1 <= ranks[f"{name}-2"][0] <= 2 for name in names)
    assert ranks["whitening-2"] != ranks["plain-2"], "the views are mapped, too"
    assert (tmp_path / "rivals-small.png").is_file()


def test_whitening_and_quantiles() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(2, size=(3000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]])
    views = x[2000:].reshape(200, 5, 2)
    split = Embedded(train=x[:2000], train_labels=None, test=x[2000:], test_labels=None, views=views)
    white = posthoc.applied("whitening", split)
    np.testing.assert_allclose(np.cov(white.train, rowvar=False), np.eye(2), atol=1e-4)
    assert abs(np.cov(white.test, rowvar=False) - np.eye(2)).max() < 0.2
    normal = posthoc.applied("quantiles", split)
    for mapped in (white, normal):
        np.testing.assert_allclose(mapped.views.reshape(1000, 2), mapped.test, atol=1e-5)
    assert stats.kstest(normal.test[:, 0], "norm").pvalue > 0.01
    assert abs(np.corrcoef(normal.test, rowvar=False)[0, 1]) > 0.3, "each coordinate for itself"
    assert posthoc.applied(None, split) is split


def test_a_flow_makes_normal_what_neither_whitening_nor_quantiles_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow, "MOST_STEPS", 200)  # half an arc is learnt by then
    split = Embedded(train=arc(2000), train_labels=None, test=arc(1000, seed=1), test_labels=None)
    kinds: tuple[Posthoc, ...] = ("flow", "whitening", "quantiles")
    mapped = {kind: posthoc.applied(kind, split).test for kind in kinds}
    bend = {kind: abs(np.corrcoef(np.square(s[:, 0]), s[:, 1])[0, 1]) for kind, s in mapped.items()}
    assert bend["flow"] < 0.1
    assert min(bend["whitening"], bend["quantiles"]) > 0.3
    scores = mapped["flow"]
    assert stats.kstest(np.square(scores).sum(1), stats.chi2(2).cdf).pvalue > 1e-3
    assert stats.kstest(scores.ravel(), "norm").pvalue > 1e-3


def test_a_run_keeps_no_points(tmp_path: Path) -> None:
    reproduce("targets", "--seeds", 1, "--out", tmp_path, *QUICK, "--only", "sphere-2", "--only", "flow-2")
    stored = tmp_path / "runs" / "targets-small" / "flow-2-seed0.json"
    assert stored.stat().st_size < 100_000
    figures = {
        row["row"]: row["figures"] for row in json.loads((tmp_path / "targets-small.json").read_text())
    }
    assert figures["sphere-2"]["log p of draws"][0] == pytest.approx(-math.log(2 * math.pi) / 2)
    entropy = math.log(2 * math.pi * math.e) / 2 + math.log(
        0.12 * 1.5 * math.pi
    )  # of radius and angle; E log r ≈ 0
    assert figures["flow-2"]["log p of draws"][0] == pytest.approx(-entropy / 2, abs=0.05)


def test_the_prior_gap_of_one_row_is_measured_once(tmp_path: Path, trained: list[str]) -> None:
    small = ("--set", "generator.epochs=1", "--set", "generator.evaluation=quick")
    model = ("--set", "generator.model.kind=gan", "--set", "generator.model.width=8")
    words = ("prior-gap", "--seeds", 1, "--out", tmp_path, "--only", "noise-2", *QUICK, *small, *model)
    reproduce(*words)
    line = next(
        line for line in (tmp_path / "prior-gap-small.md").read_text().splitlines() if "| noise |" in line
    )
    assert line.startswith("| 2 | noise | flow matching | 1 |")
    run = json.loads((tmp_path / "runs" / "prior-gap-small" / "noise-2-seed0.json").read_text())
    quality = run["quality"]
    ratio = quality["prior"]["frechet_distance"] / quality["heldout"]["frechet_distance"]
    assert quality["prior_gap"] == pytest.approx(ratio)
    assert (run["generator"]["model"]["kind"], run["generator"]["condition_noise"]) == ("gan", 0.2)
    with Image.open(tmp_path / "runs" / "prior-gap-small" / "noise-2-seed0.png") as picture:
        assert picture.size == (71, 71)
    reproduce(*words)
    assert len(trained) == 1
    path = tmp_path / "runs" / "prior-gap-small" / "noise-2-seed0.json"
    del run["spec"]["noise"]["layers"], run["generator"]["precision"]
    path.write_text(json.dumps(run))
    reproduce(*words)
    assert len(trained) == 1, "it is from before these fields"
    run["generator"]["epochs"] = 2
    path.write_text(json.dumps(run))
    nothing = CliRunner().invoke(main, ["reproduce", *map(str, words), "--write-only"])
    assert "No run of prior-gap is stored" in nothing.output


def test_the_front_is_what_nothing_beats_in_both() -> None:
    def found(name: str, distance: float, accuracy: float) -> tuple[Row, list[dict[str, Any]]]:
        figures = {"sw2_ratio": distance, "linear": accuracy, "mlp": None}
        return Row(name, ("2", name), {}, "digits"), [{"report": figures}]

    rows = [found("near", 1.0, 0.7), found("noise alone", 1.5, 0.7), found("useful", 2.0, 0.9)]
    rows.append(found("noise and more", 1.2, 0.8))
    assert [p.name for p in pareto.front(pareto.points(rows, 2, "linear"))] == [
        "near",
        "noise and more",
        "useful",
    ]
    words = pareto.findings(rows)
    assert "near (1.00, 0.700), noise and more (1.20, 0.800), useful (2.00, 0.900)." in words
    assert "noise alone (1.50, 0.700), beaten by near, noise and more." in words
    assert "MLP" not in words


def test_a_front_says_how_far_apart_accuracies_have_an_order() -> None:
    report = {"sw2_ratio": 1.0, "linear": 0.9, "mlp": 0.9, "n_heldout": 400}
    row = Row("noise", ("2", "noise alone"), {}, "digits")
    # two standard errors of a difference: 2 √(2 · .9 · .1 / 400) = .042, and of four seeds half of it
    assert "one seed, accuracies that are less than 0.042 apart" in pareto.findings(
        [(row, [{"report": report}])]
    )
    four = pareto.findings([(row, [{"report": report}] * 4), (Row("x", ("2", "x"), {}, "digits"), [])])
    assert "400 test images and 4 seeds, accuracies that are less than 0.021 apart" in four


def in_its_scale(law: str, w1: float, quantile: float, draws: float, linear: float) -> tuple[Row, list[dict]]:
    own = {
        "w1": {"ratio": w1, "value": 0.0, "floor": 0.0},
        "quantile_low": {"value": quantile, "floor": draws, "ratio": 0.0},
        "quantile_high": {"value": 0.01, "floor": 0.01, "ratio": 0.0},
    }
    accuracy = {"linear": linear, "knn": 0.9, "mlp": 0.9, "n_heldout": 400}
    report = {**accuracy, "tested": "clean", "clean": {"own_scale": own}}
    return Row(law, ("2", law), {}, "digits"), [{"report": report}] * 4


def test_what_is_asked_of_each_law_is_answered() -> None:
    found = [
        in_its_scale("N(0, 1)", 1.2, 0.2, 0.1, 0.90),
        in_its_scale("Laplace", 2.1, 0.03, 0.1, 0.905),
        in_its_scale("exponential", 1.9, 0.06, 0.04, 0.85),
        (Row("beta", ("2", "beta"), {}, "digits"), []),
    ]
    words = asked.findings(found)
    assert "W1: met by 2 of 3, not by Laplace at d = 2." in words
    assert "Quantiles: met by 1 of 3; of the other 2, as many true draws miss it in 1 of 2; " in words
    assert "missed where true draws have it by exponential at d = 2." in words
    assert "linear probe: met by 1 of 2, not by exponential at d = 2 (−5.0)." in words
    assert "an MLP: met by all 2." in words
    assert "less than 2.1 points apart" in words
    assert asked.findings(found[-1:]) == ""
    for _, made in found[:3]:
        made[0]["report"]["mlp"] = None
    assert "an MLP: not measured." in asked.findings(found), "as in a quick evaluation"


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("plugins", "foo=1", "foo: there is no such field; there are"),
        ("plugins", "epoch=1", "epoch: there is no such field; did you mean epochs?"),
        ("plugins", "epochs=abc", "epochs: Input should be a valid integer"),
        ("plugins", "regularizer=3", "regularizer: needs a kind, as in regularizer.kind = "),
        ("power", "set=5", "set: there is no such field; did you mean sets?"),
        ("separability", "train=many", "train: Input should be a valid integer"),
        ("prior-gap", "generator.epoch=1", "epoch: there is no such field; did you mean epochs?"),
        ("prior-gap", "generator=1", "is not a valid spec"),
    ],
)
def test_a_change_that_no_row_can_have_is_told(table: str, change: str, message: str, tmp_path: Path) -> None:
    words = ["reproduce", table, "--set", change, "--out", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in " ".join(result.output.split())
    assert f"ow {next(iter(TABLES[table].rows('small'))).name} is not a valid spec:" in result.output


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "bounds", "--only", "magic", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "infonce-separable" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("power", "separability")])
@pytest.mark.parametrize("scale", ["small", "full"])
def test_every_row_is_a_spec(name: str, scale: str, real_data: Path, tmp_path: Path) -> None:
    rows = TABLES[name].rows(scale)
    assert len({row.name for row in rows}) == len(rows)
    store = TABLES[name].store(tmp_path, Sources(real_data / "torchvision"))
    assert isinstance(store, runs.Runs)
    for row in rows:
        if row.dataset in sets.ARCHIVES:  # known without decoding tens of thousands of images
            side = row.data.image_size
            store._facts[row.data] = DatasetFacts(
                name=row.dataset, n_train=2400, n_test=500, height=side, width=side, channels=3, classes=10
            )
    digests = set()
    for row in rows:
        method = store._spec(row, 0).method
        whole = name == "targets" or row.name.startswith(("default", "short"))
        assert whole or method.kind != "infomax" or not method.neighbors, "rows differ in one thing"
        assert len(row.labels) == len(TABLES[name].headings)
        made = row.changes.get(prior_gap.GENERATOR)
        digests.add((store._spec(row, 0).digest, row.posthoc, row.data, json.dumps(made)))
    assert len(digests) == len(rows), "two rows are the same"


def test_the_names_are_those_of_the_tables() -> None:
    assert tuple(TABLES) == command.NAMES


def test_spread() -> None:
    assert spread([1.0, None, 3.0], ".1f") == "2.0 ± 1.4 (2 of 3)"
    assert spread([1.0, None], ".1f") == "1.0 (1 of 2)"
    assert spread([1.0, 3.0], ".1f") == "2.0 ± 1.4"
    assert spread([2.0], ".1f") == "2.0"
    assert spread([None], ".1f") == "–"


def run_in(dtype: str) -> dict[str, Any]:
    """As much of a stored run as a page needs."""
    dataset = {"name": "x", "n_train": 1, "n_test": 1}
    provenance = {"dataset": dataset, "processor": "p", "threads": 1, "torch": "t", "nidim": "n"}
    return {"seed": 0, "resolved": {"dtype": dtype}, "provenance": provenance, "report": {"hz_p": 0.5}}


def page_of(*dtypes: str) -> str:
    columns = (of_report("hz_p", "HZ p", ".1f", "of a test"), of_report("hz_p", "again", ".1f"))
    table = dataclasses.replace(TABLES["targets"], columns=columns, headings=("row",), findings=None)
    rows = [Row(f"row-{i}", (f"{i}",), {}, "x") for i in range(len(dtypes))]
    return markdown(
        table, [(row, [run_in(dtype)]) for row, dtype in zip(rows, dtypes, strict=True)], "made so"
    )


def test_a_page_says_what_its_columns_mean_and_which_rows_differ_in_precision() -> None:
    page = page_of("bfloat16", "float32", "bfloat16")
    assert "\nHZ p: of a test.\n" in page
    assert "float32 in runs of row-1; bfloat16 in the others." in page
    assert "precision" not in page_of("float32", "float32")


def test_a_row_whose_seeds_differ_in_precision_is_said_to() -> None:
    table = dataclasses.replace(TABLES["targets"], columns=(), headings=("row",), findings=None)
    both, one = [run_in("bfloat16"), run_in("float32")], [run_in("float32")]
    rows = [(Row(name, (name,), {}, "x"), runs) for name, runs in (("a", both), ("b", both), ("c", one))]
    assert "float32 in runs of c; bfloat16 and float32 in the others." in markdown(table, rows, "made so")
    assert "bfloat16 and float32 in runs of every row." in markdown(table, rows[:2], "made so")


def test_costs_are_those_of_one_machine() -> None:
    columns = (Column("s", lambda run: run["train_s"], ".0f", cost=True), of_report("hz_p", "HZ p", ".1f"))
    table = dataclasses.replace(TABLES["targets"], columns=columns, headings=("row",), findings=None)
    slow, fast = ({**run_in("float32"), "train_s": seconds} for seconds in (40.0, 10.0))
    slow["provenance"] = {**slow["provenance"], "processor": "slow"}
    first, second = (Row(name, (name,), {}, "x") for name in ("first", "second"))
    page = markdown(table, [(first, [slow, fast, fast]), (second, [slow])], "made so")
    assert "| first | 3 | 40 | 0.5 |" in page, "of as many runs each: the machine of the first"
    page = markdown(table, [(first, [slow, fast, fast]), (second, [slow, fast])], "made so")
    assert "| first | 3 | 10 | 0.5 |" in page
    assert "| second | 2 | 10 | 0.5 |" in page
    assert "\ns: of the runs on p alone.\n" in page
    page = markdown(table, [(first, [fast, fast]), (second, [slow])], "made so")
    assert "| second | 1 | – | 0.5 |" in page
    assert "alone" not in markdown(table, [(first, [fast])], "made so")


def test_the_peak_is_that_of_one_run() -> None:
    machine.reset_peak()
    before = runs.peak_mb()
    with mmap.mmap(-1, 200_000_000) as block:  # of the system: malloc may keep what is given back to it
        for _ in range(200):
            block.write(bytes(1_000_000))
        assert runs.peak_mb() > before + 150
    machine.reset_peak()
    assert runs.peak_mb() < before + 100
    assert math.isfinite(before)


def test_a_run_from_before_a_field_is_found_while_its_default_is_asked_for(tmp_path: Path) -> None:
    store = runs.Runs(tmp_path, datasets_dir=None)
    row = Row("x", (), {"noise": {"kind": "gaussian", "sigma": 0.5}}, "digits")
    spec = store._spec(row, 0).model_dump(mode="json")
    del spec["noise"]["layers"], spec["method"]["local"]
    (tmp_path / "x-seed0.json").write_text(json.dumps({"format": 1, "posthoc": None, "spec": spec}))
    assert store.find(row, 0) is not None
    other = Row("x", (), {"noise": {"kind": "gaussian", "sigma": 0.5, "layers": 0.1}}, "digits")
    assert store.find(other, 0) is None


def test_a_damaged_file_is_no_run(tmp_path: Path) -> None:
    row = Row("x", (), {}, "digits")
    store = runs.Runs(tmp_path, datasets_dir=None)
    (tmp_path / "x-seed0.json").write_text("{")
    assert store.find(row, 0) is None
    (tmp_path / "x-seed0.json").write_text('{"format": 0}')
    assert store.find(row, 0) is None


def test_the_first_classes_of_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sets.open_set(sets.SetName("digits"), root=None, allow_downloads=False)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for split, images in (("train", whole.train), ("test", whole.test)):
            for number in range(60):
                data = io.BytesIO()
                Image.fromarray(images.images[number, :, :, 0]).save(data, "PNG")
                archive.writestr(f"{split}/{images.labels[number]}/{number}.png", data.getvalue())
    monkeypatch.setitem(sets.ARCHIVES, "some", "some.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "torchvision").mkdir()
    name = sets.SetName("some", image_size=16, classes=3)
    found = sets.open_set(name, root=tmp_path / "torchvision", allow_downloads=False)
    assert found.train.images.shape == (int((whole.train.labels[:60] < 3).sum()), 16, 16, 1)
    assert set(found.test.labels.tolist()) == {0, 1, 2}
    assert len(found.classes) == found.facts.classes == 3
    assert sets.first_classes(whole, 3).digest != whole.digest
    with pytest.raises(DataError, match="10 classes, not 11"):
        sets.first_classes(whole, 11)
    with pytest.raises(DataError, match="no labels"):
        sets.first_classes(dataclasses.replace(whole, train=sets.ImageSet(whole.train.images)), 3)
    with pytest.raises(DataError, match=r"some\.zip is needed"):
        sets.open_set(name, root=None, allow_downloads=False)


def test_a_share_of_a_set_is_held_out() -> None:
    whole = sets.open_set(sets.SetName("digits"), root=None, allow_downloads=False)
    found = sets.open_set(sets.SetName("digits", held_out=0.5), root=None, allow_downloads=False)
    assert (len(found.train), len(found.test)) == (899, 898)
    assert found.digest == f"{whole.digest}, 0.5 of all held out"

    def known(*parts: sets.ImageSet) -> list[tuple[bytes, int]]:
        return sorted(
            (image.tobytes(), int(label))
            for part in parts
            for image, label in zip(part.images, part.labels, strict=True)
        )

    assert known(found.train, found.test) == known(whole.train, whole.test)
    assert known(found.train) == known(sets.divided(whole, 0.5).train)
    assert np.bincount(found.test.labels).min() > 70
    with pytest.raises(DataError, match="leaves none to train on"):
        sets.divided(whole, 1.0)


def test_a_run_of_other_images_is_no_run_of_the_row(tmp_path: Path) -> None:
    few = {"encoder": {"kind": "conv", "dim": 2, "width": 4}, "epochs": 1, "evaluation": "quick"}
    row = Row("x", (), few, "digits")
    store = runs.Runs(tmp_path, datasets_dir=None)
    made = store.make(row, 0, Hooks())
    assert store.find(row, 0) == made
    assert store.find(dataclasses.replace(row, held_out=0.5), 0) is None


def _settings(rule: predict.Rule) -> list[predict.Setting]:
    """What a world would show in which the rule holds."""
    made = []
    for dim, batch in predict.SETTINGS:
        for sigma in predict.SIGMAS:
            known = predict.Setting(
                found=(dim, batch) in predict.FOUND_ON,
                dim=dim,
                capacity=dim / 2 * math.log1p(sigma**-2),
                ceiling=math.log(batch),
                mi=0,
                log_sw2=0,
                accuracy=0,
            )
            figures = {name: getattr(rule, name)(known) for name, _ in predict.FIGURES}
            made.append(dataclasses.replace(known, **figures))
    return made


def test_the_rule_is_found_where_it_holds() -> None:
    world = predict.Rule(sharpness=2.5, share=0.8, matching=(0.5, 1.5), use=(0.2, 0.1))
    settings = _settings(world)
    rule = predict.find_rule([s for s in settings if s.found])
    assert rule.sharpness == pytest.approx(2.5, rel=1e-4)
    assert rule.share == pytest.approx(0.8, rel=1e-4)
    assert rule.matching == pytest.approx((0.5, 1.5), rel=1e-4)
    for s in settings:
        assert rule.mi(s) == pytest.approx(s.mi, rel=1e-4)
        assert rule.mi(s) < min(s.capacity, s.ceiling)


def test_predictions_stand_beside_the_mean_of_what_was_found(tmp_path: Path) -> None:
    world = predict.Rule(sharpness=2.5, share=0.8, matching=(0.5, 1.5), use=(0.2, 0.1))
    rows = predict.PREDICT.rows("small")
    found = [
        (
            row,
            [
                {
                    "report": {
                        "capacity_nats": s.capacity,
                        "mi_nats": s.mi,
                        "mlp": s.accuracy,
                        "dim": s.dim,
                        "sw2_ratio": math.exp(s.log_sw2),
                    }
                }
            ],
        )
        for row, s in zip(rows, _settings(world), strict=True)
    ]
    text = predict.PREDICT.findings(found)
    assert "p = 2.50, L = 0.80 log B" in text
    line = next(line for line in text.splitlines() if line.startswith("| Î"))
    _, _, own, new, null, _ = line.split("|")
    assert float(own) == float(new) == 0
    assert float(null) > 0.3
    assert (
        "50% of the error of one number for all: Î, nats; log SW2 / floor; MLP accuracy. Not: nothing."
        in text
    )
    noise = np.random.default_rng(0)
    for _, runs_ in found:
        runs_[0]["report"]["mlp"] = float(noise.uniform())
    assert "for all: Î, nats; log SW2 / floor. Not: MLP accuracy." in predict.PREDICT.findings(found)
    assert "when all rows" in predict.PREDICT.findings([(row, []) for row, _ in found])
    predict.PREDICT.figure(found, "small", tmp_path / "predict.png")
    drawn = (tmp_path / "predict.png").stat().st_size
    predict.PREDICT.figure([(row, []) for row, _ in found], "small", tmp_path / "empty.png")
    assert drawn > (tmp_path / "empty.png").stat().st_size
