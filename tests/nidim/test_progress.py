"""What a person reads in the terminal: where a training stands, and the figures after it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from nidim.progress import COLUMNS, TrainingDisplay, report_table
from nidim.train import Progress

SHOWN = {
    "step": 10,
    "steps": 100,
    "epoch": 2,
    "epochs": 20,
    "images_per_s": 12_345.6,
    "mi_nats": 1.234,
    "capacity_nats": 2.49,
}
REPORT = {
    "dim": 2,
    "tested": "clean",
    "sigma": 0.3,
    "mi_nats": 2.31,
    "capacity_nats": 2.49,
    "kl_bound_nats": 0.741,
    "kl_bound_upper95_nats": 0.827,
    "hz_p": 0.412,
    "hz_p_null": 0.48,
    "sw2_ratio": 4.27,
    "linear": 0.345,
    "knn": 0.404,
    "mlp": 0.387,
}


class Clock:
    """Moves when told to, so that the time left is a number that a test can know."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console(clock: Clock) -> Console:
    return Console(record=True, file=io.StringIO(), width=130, get_time=clock)


def lines(console: Console) -> list[str]:
    return [line.strip() for line in console.export_text().splitlines() if line.strip()]


def test_information_stands_against_capacity_with_speed_and_time_left(console: Console, clock: Clock) -> None:
    with TrainingDisplay(console) as display:
        display.show(**SHOWN)
        clock.now += 5
        display.show(**{**SHOWN, "step": 20}, title="with noise")
    (line,) = lines(console)
    assert line.startswith("with noise epoch 2/20 ")
    assert "Î 1.23 / C 2.49 nats  12,346 images/s" in line
    assert line.endswith("0:00:40"), "ten steps took five seconds, and eighty are left"


def test_the_time_left_of_a_resumed_training_counts_its_own_steps_alone(
    console: Console, clock: Clock
) -> None:
    with TrainingDisplay(console) as display:
        display.show(**{**SHOWN, "step": 5000, "steps": 10_000})
        clock.now += 5
        display.show(**{**SHOWN, "step": 5010, "steps": 10_000})
    assert lines(console)[0].endswith("0:41:35")


def test_a_step_of_the_library_looks_as_an_event_of_a_job(console: Console, clock: Clock) -> None:
    unseen = dict.fromkeys(field.name for field in dataclasses.fields(Progress))
    with TrainingDisplay(console) as display:
        display.step(Progress(**{**unseen, **SHOWN}))
    with TrainingDisplay(console) as display:
        display.show(**SHOWN)
    step, event = lines(console)
    assert step == event


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"capacity_nats": None}, "Î 1.23  12,346 images/s"),
        ({"mi_nats": None}, "12,346 images/s"),
        ({"mi_nats": None, "capacity_nats": None}, "12,346 images/s"),
    ],
)
def test_what_is_not_known_is_not_shown(console: Console, given: dict[str, Any], said: str) -> None:
    with TrainingDisplay(console) as display:
        display.show(**{**SHOWN, **given})
    (line,) = lines(console)
    assert said in line
    assert ("Î" in line) == (given.get("mi_nats", 1) is not None)
    assert "C " not in line


def test_phases_after_the_training_have_a_line_of_their_own_until_they_are_over(console: Console) -> None:
    def shown(failed: bool) -> list[str]:
        with contextlib.suppress(KeyboardInterrupt), TrainingDisplay(console) as display:
            display.phase("training", None)
            display.show(**SHOWN)
            for name, fraction in (("embedding", None), ("evaluating", 0.5), ("storing", None)):
                display.phase(name, fraction)
            if failed:
                raise KeyboardInterrupt
        return lines(console)

    training, after = shown(failed=True)
    assert "Î 1.23" in training
    assert after.startswith("storing"), "that is where it was"
    (training,) = shown(failed=False)
    assert "Î 1.23" in training


def test_the_bar_stops_with_an_error_too(console: Console) -> None:
    with pytest.raises(KeyboardInterrupt), TrainingDisplay(console) as display:
        raise KeyboardInterrupt
    assert not display.bar.live.is_started


def table(console: Console, rows: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, str]]:
    """The cells of each row by their headings."""
    report_table(rows, console)
    cells = [line.strip("┃│").replace("┃", "│").split("│") for line in lines(console) if line[0] in "┃│"]
    head, *body = ([cell.strip() for cell in row] for row in cells)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def test_the_table_shows_the_certificate_and_every_figure(console: Console) -> None:
    assert table(console, [("with noise", REPORT)])["with noise"] == {
        "d": "2",
        "σ or ε": "0.3",
        "law of": "clean",
        "Î": "2.31",
        "C": "2.49",
        "KL bound": "0.741",
        "95 %": "0.827",
        "HZ p": "0.412",
        "true draws": "0.480",
        "SW2 / floor": "4.27",
        "linear": "0.345",
        "kNN": "0.404",
        "MLP": "0.387",
    }


def test_on_a_narrow_terminal_the_figures_of_an_encoder_stand_below_each_other() -> None:
    narrow = Console(record=True, file=io.StringIO(), width=60)
    found = table(narrow, [("with noise", REPORT), ("none", {**REPORT, "mlp": None})])
    assert found["KL bound"] == {"with noise": "0.741", "none": "0.741"}
    assert found["MLP"] == {"with noise": "0.387", "none": "–"}
    assert len(found) == 3 + len(COLUMNS)


@pytest.mark.parametrize(("key", "heading"), [(key, heading) for key, heading, _ in COLUMNS])
def test_a_figure_that_does_not_apply_is_a_dash_and_no_other(
    console: Console, key: str, heading: str
) -> None:
    rows = table(console, [("whole", REPORT), ("none", {**REPORT, key: None})])
    assert rows["none"] == {**rows["whole"], heading: "–"}


def test_a_figure_that_is_missing_is_a_dash(console: Console) -> None:
    assert set(table(console, [("empty", {})])["empty"].values()) == {"–"}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"sigma": 0.3, "epsilon": None}, "0.3"),
        ({"sigma": None, "epsilon": 0.1}, "0.1"),
        ({"sigma": None, "epsilon": None}, "–"),
        ({"sigma": None, "epsilon": None, "certificate_sigma": 0.3}, "(0.3)"),
    ],
)
def test_the_noise_is_shown_whatever_its_kind(console: Console, values: dict[str, Any], shown: str) -> None:
    assert table(console, [("row", {**REPORT, **values})])["row"]["σ or ε"] == shown


def test_a_figure_says_which_embeddings_it_is_of(console: Console) -> None:
    shown = table(console, [("uniform", {**REPORT, "tested": "noisy"}), ("gaussian", REPORT)])
    assert [shown[row]["law of"] for row in ("uniform", "gaussian")] == ["noisy", "clean"]


def test_zero_is_a_figure_and_no_dash(console: Console) -> None:
    row = table(console, [("row", {**REPORT, **{key: 0.0 for key, _, _ in COLUMNS}})])["row"]
    assert "–" not in row.values()
