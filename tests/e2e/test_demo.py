"""``nidim demo`` as a user starts it: what it prints, the page that it writes, and what is left when a step fails."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nidim import demo as program
from nidim.cli import main
from nidim.data import BUILTINS, load_builtin
from nidim.demo import SIGMA
from nidim.spec.channel import gaussian_capacity

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for what is left in /proc"),
]

INLINE = "data:image/png;base64,"
GRID = 8 * 8 + 7
"""Pixels a side of eight images and the lines between them."""
HEADINGS = ["d", "σ or ε", "Î", "C", "KL bound", "95 %", "HZ p", "true draws", "SW2 / floor", "linear", "kNN"]


@contextlib.contextmanager
def start(place: Path, *options: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """``nidim demo`` with all that it writes below ``place``; interrupted if the test ends before it does."""
    place.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "nidim", "demo", "--out", str(place / "out"), *options],
        env={**os.environ, "TMPDIR": str(place), "NIDIM_EXPORT_ONNX": "true", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def processes(place: Path) -> list[str]:
    """Commands of the processes that have ``place`` in their environment or work in it.

    Redis writes its title over its environment, but works in the folder of its files.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, folder = (process / "environ").read_bytes(), str((process / "cwd").readlink())
            if f"TMPDIR={place}".encode() in environment or folder.startswith(str(place)):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def nothing_is_left(place: Path) -> None:
    assert processes(place) == []
    assert list(place.glob("nidim-*")) == [], "scratch directories and sockets"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a short demo printed, and its page."""
    place = tmp_path_factory.mktemp("demo")
    with start(place, "--epochs", "2") as process:
        printed, _ = process.communicate(timeout=560)
    assert process.returncode == 0, printed
    nothing_is_left(place)
    return printed, place / "out" / "report.html"


def table(printed: str) -> dict[str, dict[str, str]]:
    """The cells of each row by their headings."""
    lines = [line for line in printed.splitlines() if line.startswith(("┃", "│"))]
    head, *body = ([cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def test_it_ends_with_a_grid_of_generated_images(demo: tuple[str, Path]) -> None:
    printed, page = demo
    assert "Images made from draws of the prior are" in printed.replace("\n", " ")
    with Image.open(page.parent / "generated.png") as picture:
        times, rest = divmod(picture.width, GRID)
        assert (picture.size, rest) == ((picture.width, picture.width), 0)
        small = np.asarray(picture)[::times, ::times]
    images = small[np.arange(GRID) % 9 != 8][:, np.arange(GRID) % 9 != 8].reshape(8, 8, 8, 8).swapaxes(1, 2)
    assert len(np.unique(images.reshape(64, 64), axis=0)) == 64, "64 different images"


def test_the_table_has_both_encoders_and_every_figure(demo: tuple[str, Path]) -> None:
    rows = table(demo[0])
    assert list(rows) == ["with noise", "without noise"]
    for row in rows.values():
        assert [heading for heading in row if heading in HEADINGS] == HEADINGS
        assert row["d"] == "2"
        assert float(row["C"]) == pytest.approx(gaussian_capacity(2, SIGMA), abs=0.005)
        assert float(row["Î"]) < float(row["C"])
        assert float(row["KL bound"]) < float(row["95 %"])
        assert 0 <= float(row["HZ p"]) <= 1
        assert 0.4 < float(row["true draws"]) < 0.6
        assert float(row["SW2 / floor"]) > 0
        assert 0.1 < float(row["linear"]) <= 1
        assert 0.1 < float(row["kNN"]) <= 1
    assert rows["with noise"]["σ or ε"] == f"{SIGMA:g}"
    assert rows["without noise"]["σ or ε"] == f"({SIGMA:g})"


def test_it_says_where_it_runs_that_it_stopped_and_what_it_wrote(demo: tuple[str, Path]) -> None:
    printed, page = demo
    assert re.search(r"runs at http://127\.0\.0\.1:\d+ ", printed)
    assert "stopped cleanly" in printed
    assert "95 % confidence" in " ".join(printed.split())
    assert page.name in printed


def test_a_program_gets_one_document_and_a_person_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"dim": 2, "mi_nats": 1.5}
    found = {"dataset": "digits", "noise": row, "none": row, "generator": {"prior_gap": 1.1}}
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    sentences = {"sentence": "It follows its law.", "gap": "It paints."}
    monkeypatch.setattr(
        program, "running_stack", lambda *_, **__: contextlib.nullcontext("http://127.0.0.1:9")
    )
    monkeypatch.setattr(program, "run_jobs", lambda *_: {**found, **sentences})
    monkeypatch.setattr(program, "assemble", lambda *_: "page")
    monkeypatch.setattr(program, "generated", lambda *_: b"picture")
    done = CliRunner().invoke(main, ["demo", "--out", str(tmp_path), "--json"])
    paths = {"report": str(tmp_path / "report.html"), "images": str(tmp_path / "generated.png")}
    assert json.loads(done.stdout) == {
        "dataset": "digits",
        "with_noise": row,
        "without_noise": row,
        "generator": {"prior_gap": 1.1},
        **paths,
    }
    for words in ("runs at http://127.0.0.1:9", "Î", *sentences.values(), "open them in a browser"):
        assert words in done.stderr
    person = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert person.stdout == done.stderr
    assert person.stderr == ""


class Reader(HTMLParser):
    """Collects tags, the addresses that a browser would load, the words that pictures have, and the text."""

    LOADED = frozenset({"src", "srcset", "href", "xlink:href", "data", "poster", "action"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.images: list[str] = []
        self.drawings: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.addresses += [value for name, value in values.items() if name in self.LOADED]
        if tag == "img":
            self.images.append(values["src"])
        if tag == "svg":
            self.drawings.append(values["aria-label"])

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(demo: tuple[str, Path]) -> Reader:
    return Reader(demo[1].read_text())


def test_the_page_loads_nothing(demo: tuple[str, Path], page: Reader) -> None:
    assert page.addresses
    assert [address for address in page.addresses if not address.startswith((INLINE, "#"))] == []
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"url\((?!#)|@import", demo[1].read_text())


@pytest.mark.parametrize(
    ("heading", "drawing"),
    [
        ("Information over the training", "Training curve: the bound reaches"),
        ("Coordinate by coordinate", "Q–Q plots of 2 coordinates"),
        ("Random projections", "Q–Q plot of 20 random projections"),
        ("Beside the law", "Scatter plot of held-out embeddings beside draws from the law"),
    ],
)
def test_the_page_shows(heading: str, drawing: str, page: Reader) -> None:
    assert heading in page.text
    assert len([words for words in page.drawings if words.startswith(drawing)]) == 1


def test_the_page_compares_with_the_encoder_without_noise(page: Reader) -> None:
    assert "this encoder" in page.text
    assert "the same, trained without noise" in page.text


def test_beside_draws_from_the_law_are_held_out_images_and_views_beside_others(page: Reader) -> None:
    held_out = {bytes(image) for image in load_builtin("digits", root=None).test.images}
    shown = [bytes(pixels(address)) in held_out for address in page.images]
    assert shown == [True] * 36 + [True, False, False, False, False, False] * 6
    assert page.text.index("nearest first") < page.text.index("What the training saw")


def pixels(address: str) -> np.ndarray:
    """The gray image of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix(INLINE)))))


def test_a_failed_training_ends_the_demo_and_all_its_processes(tmp_path: Path) -> None:
    place, datasets = tmp_path / "place", tmp_path / "datasets"
    for name in BUILTINS["mnist"].files:
        file = datasets / "MNIST" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no IDX file")
    with start(place, "--datasets-dir", str(datasets)) as process:
        assert process.stdout is not None
        assert any("The service runs at" in line for line in process.stdout)
        running = processes(place)
        printed, _ = process.communicate(timeout=240)
    for part in ("nidim up", "service.serve", "worker", "redis-server"):
        assert any(part in command for command in running), f"the look at processes misses {part}"
    assert process.returncode == 1
    assert "is not a whole IDX file" in printed
    assert not (place / "out" / "report.html").exists()
    nothing_is_left(place)


def test_a_demo_that_is_told_to_end_takes_its_stack_along(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        assert any("The service runs at" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    nothing_is_left(tmp_path)


def test_a_demo_that_is_killed_takes_its_stack_along(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        assert "The service runs at" in process.stdout.readline()
        process.kill()
    deadline = time.monotonic() + 60
    while processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(tmp_path) == []


def test_a_service_that_does_not_start_ends_the_demo(tmp_path: Path) -> None:
    with start(tmp_path, NIDIM_LEASE_S="-1") as process:
        printed, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "server.log" in printed
    assert "lease_s" in (tmp_path / "out" / "server.log").read_text()
    nothing_is_left(tmp_path)
