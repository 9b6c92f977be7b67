"""The page stands alone, says the figures, and survives every shape of report."""

from __future__ import annotations

import base64
import functools
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nidim.capacity import resolve
from nidim.evaluate import Embedded, Report, evaluate, page, plots, sentence, svg, tables
from nidim.priors import make_prior, noisy_prior
from nidim.spec import DatasetFacts, TrainSpec

CASES = {
    "normal": (2, {"kind": "gaussian", "sigma": 0.5}, "gaussian"),
    "one dimension": (1, {"kind": "none"}, "gaussian"),
    "five dimensions": (5, {"kind": "gaussian", "sigma": 0.5}, "gaussian"),
    "through phi": (3, {"kind": "gaussian", "sigma": 0.5}, "uniform"),
    "sigmoid": (2, {"kind": "uniform", "epsilon": 0.1}, "uniform"),
    "out of reach": (64, {"kind": "gaussian", "sigma": 0.5}, "gaussian"),
}
HISTORY = [{"step": i, "epoch": i / 4, "mi_nats": 1 - 1 / i, "loss": 1.0} for i in range(1, 40)]


@functools.cache
def made(case: str, n: int = 300, labels: bool = True) -> tuple[Report, dict[str, Any]]:
    dim, noise, prior = CASES[case]
    facts = DatasetFacts(name="made", n_train=200, n_test=n, height=8, width=8, channels=1, classes=3)
    spec = TrainSpec.model_validate(
        {"dataset": "made", "encoder": {"kind": "conv", "dim": dim}, "noise": noise, "prior": {"kind": prior}}
    ).filled(facts)
    resolved, _ = resolve(spec, facts)
    law, noisy = make_prior(spec), noisy_prior(make_prior(spec), resolved)
    train, test = law.sample(200, seed=1), law.sample(n, seed=2)
    views = law.sample(120, seed=3).reshape(30, 4, dim) if labels else None
    y, y_test = (np.arange(200) % 3, np.arange(n) % 3) if labels else (None, None)
    report = evaluate(
        Embedded(train, y, test, y_test, views),
        spec=spec,
        resolved=resolved,
        mi_nats=1.0,
        prior=law,
        noisy=noisy,
        level="quick",
        provenance={"nidim": "0.1.0", "dataset": {"digest": "sha256:<&>"}},
    )
    return report, {"embeddings": test, "labels": y_test, "prior": law, "noisy": noisy}


class Reader(HTMLParser):
    """Collects tags, ids, addresses and text; complains of unbalanced tags."""

    VOID = frozenset({"meta", "img", "br", "link", "image", "use", "path", "circle", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [v for k, v in attrs if k == "id" and v]
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def pages() -> dict[str, tuple[Report, str]]:
    found = {}
    for case in CASES:
        report, given = made(case)
        found[case] = (report, page.render(report, title=f"made: {case}", history=HISTORY, **given))
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_stands_alone_and_is_well_formed(pages, case):
    html = pages[case][1]
    reader = read(html)
    outside = [a for a in reader.addresses if not a.startswith(("data:image/png;base64,", "#"))]
    assert outside == []
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe"}
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(reader.ids) == len(set(reader.ids))
    targets = {a[1:] for a in reader.addresses if a.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", html)
    )
    assert targets <= set(reader.ids)


@pytest.mark.parametrize("case", CASES)
def test_it_says_the_certificate_and_the_figures(pages, case):
    report, html = pages[case]
    text = " ".join(" ".join(read(html).words).split())
    assert " ".join(sentence(report).split()) in text
    for row in tables.key_figures(report):
        for key in row:
            assert key.value in text
    assert "Sliced Wasserstein-2" in text
    for section in report.absent:
        assert section in text


@pytest.mark.parametrize(("nats", "says"), [(1.5, False), (0.0, False), (-352.4, True)])
def test_a_bound_below_0_is_said_to_say_nothing(nats: float, says: bool) -> None:
    report = made("normal")[0].model_copy(update={"mi_nats": nats})
    (note,) = [key.note for row in tables.key_figures(report) for key in row if key.label == "Information"]
    assert ("says nothing" in note) == says


@pytest.mark.parametrize("case", CASES)
def test_pictures_have_words_and_take_the_colours_of_the_page(pages, case):
    html = pages[case][1]
    drawings = [values for tag, values in read(html).tags if tag == "svg"]
    assert len(drawings) >= 4
    assert all(values.get("role") == "img" and values.get("aria-label") for values in drawings)
    assert not any(colour in html for colour in svg.COLOURS.values())
    assert "var(--accent)" in html
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize("case", CASES)
def test_it_says_what_was_measured_without_labels(pages, case):
    report, html = pages[case]
    text = " ".join(" ".join(read(html).words).split())
    assert "Without labels: 4 views of each of 30 held-out images" in text
    for row in tables.representation_rows(report):
        assert f"{row.label} {row.value} {row.note}" in text


def test_a_report_from_before_a_section_was_measured_is_still_shown():
    report, given = made("one dimension")
    old = report.model_dump(mode="json", exclude={"representation"})
    text = " ".join(read(page.render(Report.model_validate(old), title="old", history=[], **given)).words)
    assert "Without labels" not in text
    assert "Sliced Wasserstein-2" in text


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_of_a_test_by_coordinates_follows_from_what_stands_beside_it(pages, case):
    report, html = pages[case]
    text = " ".join(" ".join(read(html).words).split())
    assert "each decides at 5 % over all coordinates together" in text
    fitted = report.promised.fitted
    rows = {row.name: row for row in tables.fitted_rows(report.promised)}
    for name, found in (("Shapiro–Wilk", fitted.shapiro), ("Anderson–Darling", fitted.anderson)):
        assert (rows[name].state == "fail") == (found.worst_p * report.dim < 0.05)
        assert (
            f"{found.worst_coordinate + 1}; rejected where the worst p times the number of" in rows[name].note
        )
    assert "rejected where the smaller p of its two parts, doubled, times" in rows["D’Agostino–Pearson"].note


def test_no_count_is_shown_below_nothing():
    drawn = plots.p_values(np.random.default_rng(0).uniform(size=30), of="x")
    assert "−" not in re.sub(r"<[^>]*>", "", drawn)


def test_what_is_not_promised_is_labelled_so(pages):
    assert "not what this construction promises" in pages["sigmoid"][1]
    assert "not what this construction promises" not in pages["normal"][1]


def test_principal_directions_are_named_beyond_two_dimensions(pages):
    assert "first principal direction" in pages["five dimensions"][1]
    assert "principal direction" not in pages["normal"][1]


def test_nothing_from_outside_becomes_markup():
    report, given = made("normal")
    html = page.render(report, title="<b>&", history=[], classes=["<i>", "b", "c"], **given)
    assert "<b>" not in html
    assert "<i>a" not in html
    assert "&lt;b&gt;&amp;" in html
    assert "sha256:&lt;&amp;&gt;" in html


def test_images_and_a_baseline_are_shown():
    report, given = made("normal")
    rng = np.random.default_rng(0)
    nearest = [rng.integers(0, 256, (3, 8, 8, c), dtype=np.uint8) for c in (1, 3)]
    views = [rng.integers(0, 256, (4, 8, 8, 1), dtype=np.uint8) for _ in range(2)]
    html = page.render(
        report, title="made", history=HISTORY, nearest=nearest, views=views, baseline=report, **given
    )
    images = [values for tag, values in read(html).tags if tag == "img"]
    assert len(images) == 14
    assert [values["alt"] for values in images[6:11]] == [
        "Held-out image 1",
        "View 1 of it",
        "View 2 of it",
        "View 3 of it",
        "Held-out image 2",
    ]
    assert images[10]["src"] == page.png(views[1][0])
    assert all(values["alt"] for values in images)
    assert "trained without noise" in html


def test_large_images_are_shown_small():
    large = np.random.default_rng(0).integers(0, 256, (512, 300, 3), dtype=np.uint8)
    for image, size in ((large, (56, 96)), (large[:96, :50, :1], (50, 96)), (large[:8, :8, 0], (8, 8))):
        text = page.png(image).removeprefix("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(text))) as shown:
            assert shown.size == size
            if size[1] == len(image):
                np.testing.assert_array_equal(np.asarray(shown), image.reshape(len(image), -1))


def test_a_poor_report_still_makes_a_page():
    report, given = made("normal", n=10, labels=False)
    html = page.render(report, title="made", history=[], **given)
    text = " ".join(read(html).words)
    assert "10 held-out embeddings; the tests need 20" in text
    assert "Information over the training" not in text


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"epoch": 1, "mi_nats": 1.0}],
        [{"epoch": i, "mi_nats": None} for i in range(5)],
        [{"epoch": i, "mi_nats": float("nan")} for i in range(5)],
    ],
)
def test_a_history_without_a_curve_draws_none(history):
    assert plots.training_curve(history, capacity_nats=1.6, ceiling_nats=6.2) is None


def test_the_training_curve_names_its_lines():
    drawn = plots.training_curve(HISTORY, capacity_nats=1.6, ceiling_nats=6.24)
    assert "capacity C = 1.60" in drawn
    assert "6.24" in drawn
    assert "capacity" not in plots.training_curve(HISTORY, capacity_nats=None, ceiling_nats=6.24)


def test_the_capacity_is_drawn_where_the_training_had_noise(pages):
    assert "capacity C = 1.61" in pages["normal"][1]
    assert "capacity C" not in pages["one dimension"][1]


def test_the_band_of_the_qq_plot_holds_true_draws_nineteen_times_in_twenty():
    n = 200
    ranks, _, low, high = plots.envelope(n)
    sets = np.sort(np.random.default_rng(0).standard_normal((1000, n)), axis=1)[:, ranks]
    inside = ((sets >= low) & (sets <= high)).all(axis=1).mean()
    assert 0.9 < inside < 0.985


def test_drawing_leaves_no_global_behind():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with svg.style():
        figure = Figure()
        figure.add_subplot()
        svg.to_svg(figure, name="x", alt='a "quoted" <alt>')
    assert dict(matplotlib.rcParams) == before


def test_the_same_report_makes_the_same_page(pages):
    report, html = pages["normal"]
    _, given = made("normal")
    assert page.render(report, title="made: normal", history=HISTORY, **given) == html
