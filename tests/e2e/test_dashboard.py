"""The dashboard in a real browser, through the real stack: from a zip of pictures to drawn ones, and all between."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from docs import pictures
from nidim.generate.report import GeneratorReport, sentence
from tests.browser import Tab, browser_tab, require_browser
from tests.waiting import SECONDS, wait_for

pytestmark = pytest.mark.slow

VIEWS = (
    "#/",
    "#/datasets",
    "#/datasets/scans",
    "#/train?dataset=scans",
    "#/jobs",
    "#/encoders",
    "#/generators",
    "#/generate?source=scans-encoder@1",
    "#/datasets/handful",
    "#/encoders/handful-encoder@1",
)
LEAST_CONTRAST = 4.5
CLASSES = ("zero", "one", "two", "three", "four", "five")
NPY = "application/x-npy"
PIXELS = """(node) => {
    const pen = new OffscreenCanvas(node.width, node.height).getContext('2d', { willReadFrequently: true });
    pen.drawImage(node, 0, 0);
    return pen.getImageData(0, 0, node.width, node.height).data;
}"""
GRAYS = f"(node) => [...({PIXELS})(node)].filter((v, i) => i % 4 == 0)"
RING = f"""(node) => {{
    const now = new Uint32Array(({PIXELS})(node).buffer);
    const before = window.before ??= now;
    const places = [];
    now.forEach((value, p) => {{ if (value !== before[p]) places.push(p); }});
    const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
    return [middle(places.map((p) => p % node.width)), middle(places.map((p) => Math.floor(p / node.width)))];
}}"""

DASHED = """async ({ dim, row, path }) => {
    const { map } = await import('/static/encoder/map.js');
    const rows = [0, 1, 2].map((i) => new Array(dim).fill(i));
    const held = { rows, labels: [], classes: [], p: [], total: 3 };
    const pen = CanvasRenderingContext2D.prototype;
    const { setLineDash, lineTo } = pen;
    let places = null;
    pen.setLineDash = function (dash) { places = dash.length ? [] : places; return setLineDash.call(this, dash); };
    pen.lineTo = function (x, y) { places?.push([x, y]); return lineTo.call(this, x, y); };
    const { node, mark } = map({ dim, prior: { kind: 'gaussian' } }, held, rows);
    document.querySelector('main').replaceChildren(node);
    mark('walk', { row, path, label: '' });
    Object.assign(pen, { setLineDash, lineTo });
    const { width, height } = node.querySelector('canvas').getBoundingClientRect();
    return { places: places.slice(0, path.length - 1), width, height };
}"""


@pytest.fixture(scope="module")
def tab(start_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser on an empty server of its own."""
    require_browser()
    directory = tmp_path_factory.mktemp("dashboard") / "data"
    with start_stack(directory, "--workers", "1") as (url, _), browser_tab(url) as found:
        yield found


@pytest.fixture(scope="module")
def digits() -> tuple[bytes, bytes]:
    """A zip of handwritten digits up to five in class folders, 108 of them held out; one of the pictures alone."""
    files = _files()
    return _zipped(files), files[0][1]


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with few.zip, 200 digits in class folders, and one.png, a digit one."""
    directory = tmp_path_factory.mktemp("dropped")
    files = _files()
    (directory / "few.zip").write_bytes(_zipped(files[:200]))
    (directory / "one.png").write_bytes(dict(files)["one/1.png"])
    return directory


def _files() -> list[tuple[str, bytes]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return [
        (f"{CLASSES[label]}/{i}.png", _png(image))
        for i, (image, label) in enumerate(zip(bunch.images, bunch.target, strict=True))
        if label < len(CLASSES)
    ]


def _zipped(files: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)
    return stream.getvalue()


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _client(tab: Tab) -> httpx.Client:
    return httpx.Client(base_url=tab.url, trust_env=False, timeout=SECONDS)


def test_an_empty_server_says_what_to_do_first(tab: Tab) -> None:
    tab.open("#/")
    steps = tab.page.locator(".steps > li")
    assert steps.count() == 3
    assert steps.nth(0).get_attribute("aria-current") == "step"
    assert steps.nth(1).get_by_role("link", name="Try it on handwritten digits").is_visible()
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert tab.page.get_by_role(landmark).count() == 1


def test_a_zip_becomes_a_set_of_pictures(tab: Tab, digits: tuple[bytes, bytes]) -> None:
    tab.open("#/")
    tab.page.set_input_files(
        "input[type=file]", {"name": "Scans.zip", "mimeType": "application/zip", "buffer": digits[0]}
    )
    tab.page.wait_for_url("**#/datasets/scans")
    tab.page.wait_for_selector(".sheet canvas")
    shown = {node.get_attribute("aria-label") for node in tab.page.locator(".sheet canvas").all()}
    assert shown <= set(CLASSES)
    assert len(shown) > 1
    ink = "node => node.getContext('2d').getImageData(0, 0, node.width, node.height).data.filter((v, i) => i % 4 == 0)"
    assert len(set(tab.page.locator(".sheet canvas").first.evaluate(f"node => [...({ink})(node)]"))) > 3


def test_pictures_are_paged_by_keys_and_late_ones_stay_away(tab: Tab) -> None:
    tab.open("#/datasets/scans")
    where = tab.page.locator(".toolbar [aria-live]")
    forth, back = (tab.page.get_by_role("button", name=name) for name in ("More →", "← Back"))
    tab.page.get_by_text("1 to 60 of 108").wait_for()
    forth.press("Enter")
    tab.page.get_by_text("61 to 108 of 108").wait_for()
    assert tab.page.evaluate("document.activeElement.textContent") == "More →", (
        "at the end it keeps the focus"
    )
    forth.press("Enter")
    assert where.text_content() == "61 to 108 of 108"
    back.press("Enter")
    tab.page.get_by_text("1 to 60 of 108").wait_for()
    late: list[Any] = []
    tab.page.route("**/images?*offset=60*", lambda route: late.append(route))
    forth.press("Enter")
    back.press("Enter")
    tab.page.get_by_text("1 to 60 of 108").wait_for()
    assert wait_for(lambda: tab.page.evaluate("() => true") and len(late) == 2)
    for request in late:
        with tab.page.expect_response("**/images?*offset=60*"):
            request.continue_()
    tab.page.unroute("**/images?*offset=60*")
    tab.page.evaluate("() => new Promise((done) => setTimeout(done, 200))")
    assert where.text_content() == "1 to 60 of 108"
    assert tab.page.locator(".sheet canvas").count() == 60


def test_the_form_shows_defaults_physics_and_faults_while_one_types(tab: Tab) -> None:
    tab.open("#/train?dataset=scans")
    dim = tab.page.get_by_role("group", name="Network").get_by_label("Dimensions d")
    assert dim.get_attribute("placeholder") == "16 (default)"
    tab.page.get_by_text("The physics has no objection.").wait_for()
    dim.fill("64")
    tab.page.get_by_text("certificate out of reach").wait_for()
    dim.fill("2")
    tab.page.get_by_text("The physics has no objection.").wait_for()
    dim.fill("0")
    tab.page.get_by_text("greater than or equal to 1").wait_for()
    assert dim.get_attribute("aria-invalid") == "true"
    dim.fill("")
    tab.page.get_by_role("group", name="Law of the embeddings").get_by_label("Kind").select_option("uniform")
    tab.page.get_by_text("U([0, 1]^d)").wait_for()
    tab.page.get_by_text("All settings").click()
    tab.page.get_by_role("group", name="Noise").get_by_label("σ of the noise").fill("-1")
    tab.page.get_by_text("Input should be greater than or equal to 0.000001").wait_for()


def test_what_was_chosen_is_not_called_the_default(tab: Tab) -> None:
    tab.open("#/train?dataset=scans&by=choice")
    evaluation = tab.page.get_by_label("Evaluation")
    kind = tab.page.get_by_role("group", name="Law of the embeddings").get_by_label("Kind")
    evaluation.select_option("quick")
    kind.select_option("uniform")
    tab.page.get_by_label("Passes over the pictures").fill("7")
    tab.page.get_by_text("7 passes,").wait_for()
    assert evaluation.locator("option").first.text_content() == "full (default)"
    assert kind.locator("option").first.text_content() == "gaussian (default)"


def test_a_small_training_is_one_press_away(tab: Tab) -> None:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    np.save(stream, rng.integers(0, 256, (20, 40, 48, 3), np.uint8))
    with _client(tab) as client:
        files = {"file": ("photos.npy", stream.getvalue())}
        client.post("/v1/datasets", data={"name": "photos"}, files=files).raise_for_status()
    tab.open("#/train?dataset=photos")
    tab.page.get_by_text("from 40 × 40 pixels").wait_for()
    tab.page.get_by_role("button", name="Set a small training").press("Enter")
    tab.page.get_by_text("from 32 × 32 pixels").wait_for()
    network = tab.page.get_by_role("group", name="Network")
    assert network.get_by_label("Kind").input_value() == "conv"
    assert tab.page.get_by_label("Evaluation").input_value() == "quick"
    assert tab.page.locator("#announcer").text_content() == "The settings of a small training are set."
    tab.page.get_by_label("Pictures", exact=True).select_option("scans")
    tab.page.get_by_role("button", name="Set a small training").click()
    tab.page.get_by_text("from 8 × 8 pixels").wait_for()


def test_pictures_that_are_gone_are_not_exchanged_for_others(tab: Tab) -> None:
    tab.open("#/train?dataset=gone")
    pictures = tab.page.get_by_label("Pictures", exact=True)
    assert pictures.input_value() == "gone"
    assert pictures.get_attribute("aria-invalid") == "true"
    assert "gone" in tab.page.locator(".fault:visible").text_content()


def test_a_refused_start_keeps_the_focus(tab: Tab) -> None:
    tab.open("#/train?dataset=scans&by=refusal")
    full = {
        "status": 429,
        "content_type": "application/problem+json",
        "body": '{"detail": "The queue is full."}',
    }
    tab.page.route("**/v1/jobs", lambda route: route.fulfill(**full))
    tab.page.get_by_role("button", name="Start training").press("Enter")
    tab.page.get_by_role("alert").get_by_text("The queue is full.").wait_for()
    assert tab.page.evaluate("document.activeElement.textContent") == "Start training"
    tab.page.unroute("**/v1/jobs")
    assert "429" in tab.errors.pop(), "the one that the browser tells"


def test_a_view_opens_once_the_server_answers_again(tab: Tab) -> None:
    tab.open("#/train?dataset=scans&by=return")
    tab.page.route("**/openapi.json", lambda route: route.abort())
    tab.page.reload()
    tab.page.get_by_text("The server does not answer.").wait_for()
    tab.page.unroute("**/openapi.json")
    tab.page.get_by_role("button", name="Try again").press("Enter")
    tab.page.get_by_role("heading", name="Train an encoder").wait_for()
    assert "ERR_FAILED" in tab.errors.pop(), "the one that the browser tells"


def test_the_keyboard_alone_trains_an_encoder(tab: Tab) -> None:
    tab.open("#/train?dataset=scans&by=keys")
    focused = "() => document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent"
    wanted = {"Dimensions d": "2", "Passes over the pictures": "6"}
    tab.page.locator("main").focus()
    for _ in range(30):
        tab.page.keyboard.press("Tab")
        name = tab.page.evaluate(focused)
        if name in wanted:
            tab.page.keyboard.type(wanted.pop(name))
        if name == "Evaluation":
            tab.page.keyboard.type("quick")
        if name == "Start training":
            break
    assert (name, wanted) == ("Start training", {})
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert tab.page.evaluate(outline) == "solid"
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**#/jobs/job_*")


def test_a_training_is_watched_live(tab: Tab) -> None:
    tab.page.get_by_role("progressbar").wait_for()
    tab.page.get_by_text("Version 1 is registered.").wait_for(timeout=180_000)
    assert tab.page.get_by_text("100 %").is_visible()
    assert "storing" in tab.page.get_by_role("log").text_content()
    chart = tab.page.get_by_role("img", name="Information over the training")
    assert "capacity C 3.26" in chart.get_attribute("aria-label")
    assert chart.locator("path.line, circle.point").count() == 1, (
        "a training of less than a second has one point"
    )
    assert all(text.isdecimal() for text in chart.locator(".tick[text-anchor=middle]").all_text_contents())


def test_a_server_that_is_lost_is_told_on_the_page_of_a_training(tab: Tab) -> None:
    before = len(tab.errors)
    tab.page.route("**/events", lambda route: route.abort())
    tab.page.reload()
    told = tab.page.get_by_role("alert").get_by_text("What is shown is how it stood; the page looks again.")
    told.wait_for()
    tab.page.unroute("**/events")
    told.wait_for(state="detached")
    tab.page.get_by_role("log").get_by_text("storing").wait_for()
    assert all("ERR_FAILED" in error for error in tab.errors[before:]), "those that the browser tells"
    del tab.errors[before:]


def test_the_encoder_tells_about_a_picture(tab: Tab, digits: tuple[bytes, bytes]) -> None:
    tab.page.get_by_role("link", name="Open the encoder").click()
    tab.page.get_by_text("Kullback–Leibler").wait_for()
    tab.page.wait_for_selector("canvas.scatter")
    tab.page.set_input_files(
        ".dropzone input", {"name": "zero.png", "mimeType": "image/png", "buffer": digits[1]}
    )
    tab.page.wait_for_selector("#tried-p")
    assert 0 <= float(tab.page.locator("#tried-p").text_content().split()[0]) <= 1
    alike = [node.get_attribute("aria-label") for node in tab.page.locator("#tried-alike canvas").all()]
    assert len(alike) == 8
    assert alike.count("zero") > 4


def test_a_dropped_picture_is_judged(tab: Tab, dropped: Path) -> None:
    card = tab.page.get_by_role("region", name="Try it")
    tab.drop(card.locator(".dropzone"), dropped / "one.png")
    card.get_by_role("img", name="one.png").wait_for()
    assert 0 <= float(card.locator("#tried-p").text_content().split()[0]) <= 1
    assert card.locator("#tried-alike canvas").count() == 8
    tab.drop(card.locator(".dropzone"), dropped / "one.png", dropped / "few.zip")
    assert "One file at a time" in card.get_by_role("alert").text_content()
    tab.drop(card.locator(".dropzone"), dropped / "few.zip")
    refusal = card.locator(".problem p").first
    refusal.wait_for()
    assert refusal.text_content() == "✕ not a PNG, JPEG, WebP, BMP, GIF or TIFF image"
    assert "422" in tab.errors.pop(), "the one that the browser tells"


def test_the_pointer_shows_the_picture_below_it(tab: Tab) -> None:
    from playwright.sync_api import expect

    tab.page.reload()  # the map of the pictures that were tried before has marks, which may hide a dot
    tab.page.wait_for_selector("canvas.scatter")
    images = "/v1/datasets/scans/images?split=test&limit=500"
    with _client(tab) as client:
        pictures = client.get(images, headers={"accept": NPY}).content
        labels = client.get(images, headers={"accept": "application/json"}).json()["labels"]
        sent = {"content": pictures, "headers": {"content-type": NPY, "accept": NPY}}
        vectors = client.post("/v1/encoders/scans-encoder/embed?watched=false", **sent).content
        classes = client.get("/v1/datasets/scans").json()["classes"]
    left, right = _apart(_array(vectors), 30)
    chart = tab.page.get_by_role("img", name="held-out pictures").first
    places = {i: _place(tab, chart, i) for i in (left, right)}
    assert places[left][0] < places[right][0]
    for i in (left, right):
        tab.page.mouse.move(*places[i])
        shown = tab.page.locator(".detail .found canvas")
        expect(shown).to_have_attribute("aria-label", classes[labels[i]])
        assert shown.evaluate(GRAYS) == _array(pictures)[i].ravel().tolist()
    law = tab.page.get_by_role("img", name="draws from the law")
    there = _place(tab, law, 5)
    tab.page.mouse.move(*places[left])
    tab.page.mouse.move(*there)
    expect(tab.page.locator(".detail")).to_contain_text("A draw from the law.")


def _apart(points: np.ndarray, first: int) -> tuple[int, int]:
    """Of the first points the one on the left and the one on the right that others are farthest from."""
    distance = np.linalg.norm(points[:first, None] - points[None], axis=-1)
    distance[np.arange(first), np.arange(first)] = np.inf
    alone = distance.min(axis=1)
    halves = np.array_split(points[:first, 0].argsort(), 2)
    left, right = (int(half[alone[half].argmax()]) for half in halves)
    return left, right


def _place(tab: Tab, chart: Any, i: int) -> tuple[float, float]:
    """Where a chart has point ``i``, of the page: the middle of the ring that the keys draw around it."""
    chart.hover(position={"x": 1, "y": 1})
    tab.page.mouse.move(0, 0)
    tab.page.evaluate("() => { window.before = undefined }")
    chart.evaluate(RING)
    chart.focus()
    for _ in range(i + 1):
        tab.page.keyboard.press("ArrowRight")
    box, (x, y) = chart.bounding_box(), chart.evaluate(RING)
    return box["x"] + x, box["y"] + y


def test_the_map_is_reached_by_keys_and_by_the_pointer(tab: Tab) -> None:
    chart = tab.page.get_by_role("img", name="held-out pictures").first
    chart.focus()
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.locator(".detail canvas").count() == 9
    before = tab.page.locator(".walk .ends canvas").first.get_attribute("aria-label")
    tab.page.get_by_role("button", name="Walk from here").click()
    assert before is not None
    slider = tab.page.get_by_label("Along the way")
    slider.fill("20")
    assert slider.get_attribute("aria-valuetext").startswith("50 %")
    assert tab.page.locator(".qqs svg").count() == 2


def test_on_a_phone_a_dot_is_told_right_below_its_map(tab: Tab) -> None:
    law, detail = tab.page.get_by_role("img", name="draws from the law"), tab.page.locator(".detail")
    assert detail.bounding_box()["y"] > law.bounding_box()["y"], "beside each other, both are above it"
    tab.page.set_viewport_size({"width": 390, "height": 844})
    held_out = tab.page.get_by_role("img", name="held-out pictures").first
    tops = [node.bounding_box()["y"] for node in (held_out, detail, law)]
    assert tops == sorted(tops)
    tab.page.set_viewport_size({"width": 1200, "height": 800})


def test_the_map_takes_the_colours_of_the_theme(tab: Tab) -> None:
    chart = tab.page.get_by_role("img", name="held-out pictures").first
    button = tab.page.get_by_role("button", name="Dark")
    picture = "node => node.toDataURL()"
    painted = "node => node.width === Math.round(node.getBoundingClientRect().width * devicePixelRatio)"
    assert wait_for(lambda: chart.evaluate(painted)), "as wide as the window is again"
    light = chart.evaluate(picture)
    tab.page.emulate_media(color_scheme="dark")
    assert wait_for(lambda: chart.evaluate(picture) != light)
    assert button.get_attribute("aria-pressed") == "true"
    tab.page.emulate_media(color_scheme="light")
    assert wait_for(lambda: chart.evaluate(picture) == light)
    assert button.get_attribute("aria-pressed") == "false"


def test_a_generator_is_one_button_away_and_can_be_cancelled(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Make a generator").click()
    tab.page.get_by_role("button", name="Cancel").click()
    tab.page.get_by_text("A retry goes on from its last checkpoint.").wait_for()
    assert tab.page.get_by_role("button", name="Retry").is_visible()


def test_a_retry_runs_the_cancelled_job_again(tab: Tab) -> None:
    cancelled = tab.page.url.rpartition("/")[2]
    tab.page.get_by_role("button", name="Retry").click()
    tab.page.wait_for_url(lambda url: not url.endswith(cancelled))
    tab.page.get_by_text("You may leave this page; the training goes on.").wait_for(timeout=120_000)
    tab.page.wait_for_selector("main progress[value]:not([value='0'])", timeout=120_000)
    with _client(tab) as client:
        job = client.get(f"/v1/jobs/{tab.page.url.rpartition('/')[2]}").json()
    assert (job["retry_of"], job["state"]) == (cancelled, "running")
    assert job["progress"]["step"] > 0
    tab.page.get_by_role("button", name="Cancel").press("Enter")
    tab.page.get_by_text("A retry goes on from its last checkpoint.").wait_for()
    assert tab.page.evaluate("document.activeElement.className") == "state", "the focus went with the button"


def test_an_encoder_without_a_generator_is_followed_by_one(tab: Tab) -> None:
    tab.open("#/")
    tab.page.locator(".steps").get_by_role("link", name="Train a generator").click()
    tab.page.get_by_text("A picture is drawn from").wait_for()
    assert tab.page.get_by_label("Encoder", exact=True).input_value() == "scans-encoder@1"


@pytest.mark.parametrize("address", ["#/encoder", "#/jobs/", "#/%E0%A4%A"])
def test_an_unknown_address_says_so(tab: Tab, address: str) -> None:
    tab.open(address)
    tab.page.get_by_role("heading", name="Not here").wait_for()
    assert f"no page {address[1:]}." in tab.page.locator("main").text_content()
    tab.page.get_by_role("link", name="Go to the start").click()
    tab.page.wait_for_selector("main[data-shown='#/']")


def test_an_address_with_a_stray_percent_sign_is_looked_up(tab: Tab) -> None:
    tab.open("#/encoders/100%")
    tab.page.get_by_role("heading", name="Not here").wait_for()
    assert "There is no such encoder" in tab.page.get_by_role("alert").text_content()
    assert "404" in tab.errors.pop(), "the one that the browser tells"


def test_new_pictures_are_drawn(tab: Tab, digits: tuple[bytes, bytes]) -> None:
    small = {"kind": "flow_matching", "width": 8, "steps": 2}
    quick = {"epochs": 1, "evaluation": "quick"}
    spec = {"kind": "generator", "source": "scans-encoder", "model": small, **quick}
    with _client(tab) as client:
        job = client.post("/v1/jobs", json={"spec": spec, "generator": "drawings"}).json()
    tab.open(f"#/jobs/{job['id']}")
    tab.page.get_by_role("link", name="Open the generator").click(timeout=180_000)
    drawn = tab.page.locator("#drawn canvas")
    drawn.nth(15).wait_for()
    pixels = "node => node.toDataURL()"
    before = drawn.first.evaluate(pixels)
    tab.page.get_by_role("button", name="Draw others").click()
    tab.page.wait_for_selector("#drawn:not([aria-busy])")
    assert drawn.first.evaluate(pixels) != before
    tab.page.set_input_files(
        ".dropzone input", {"name": "zero.png", "mimeType": "image/png", "buffer": digits[1]}
    )
    tab.page.get_by_text("drawn from its embedding").wait_for()
    assert tab.page.locator(".walk .sheet canvas").count() == 15
    with _client(tab) as client:
        gap = client.get("/v1/generators/drawings").json()["report"]["prior_gap"]
    figures = tab.page.locator("dl.figures").text_content()
    assert f"Prior gap{gap:.2f}" in figures
    assert "Fréchet distance" in figures
    with _client(tab) as client:
        report = client.get("/v1/generators/drawings/report").json()
    known = {name: report[name] for name in GeneratorReport.model_fields}
    assert tab.page.locator(".sentence").text_content() == sentence(GeneratorReport(**known))
    assert tab.page.get_by_role("img", name="Loss over the training").locator("path.line").count() == 1
    tab.open("#/generators")
    row = tab.page.get_by_role("row", name="drawings@1")
    assert f"{gap:.2f}" in row.text_content()
    assert row.get_by_role("link", name="scans-encoder@1").is_visible()


def test_drift_is_shown_and_forgotten(tab: Tab) -> None:
    with _client(tab) as client:
        encoder = client.get("/v1/encoders/scans-encoder").json()["id"]
        query = "/v1/datasets/scans/images?split=train&limit=300"
        pictures = _array(client.get(query, headers={"accept": NPY}).content)
        tab.open(f"#/encoders/{encoder}")
        card = tab.page.get_by_role("region", name="Drift", exact=True)
        card.get_by_text("Nothing has been embedded since the watch began.").wait_for()
        look = card.get_by_role("button", name="Look again")

        _embed(client, encoder, pictures)
        look.click()
        card.get_by_text("Nothing speaks for a drift so far.").wait_for()
        assert tab.page.get_by_text("Drift:").count() == 0
        told = client.get(f"/v1/encoders/{encoder}/drift").json()
        assert f"Pictures seen{len(pictures)}" in card.locator("dl").text_content()
        for name, one in told["statistic"].items():
            cells = [one[key] for key in ("from_prior", "heldout", "beyond", "chance")]
            row = card.get_by_role("row", name=name)
            assert row.locator("td").all_text_contents() == [name, *(f"{value:.3f}" for value in cells)]

        for _ in range(12):
            if not client.get(f"/v1/encoders/{encoder}/drift").json()["alarm"]:
                _embed(client, encoder, 255 - pictures[:100])
        look.click()
        card.get_by_text("Pictures were embedded that are not like the held-out ones.").wait_for()
        assert card.locator(".badge").text_content() == "✕ drift"
        assert tab.page.get_by_role("alert").get_by_text("Drift:").is_visible()
        assert "Evidence p< 0.001" in card.locator("dl").text_content()

        card.get_by_role("button", name="Forget it and watch anew").press("Enter")
        card.get_by_text("Nothing has been embedded since the watch began.").wait_for()
        assert tab.page.locator("#announcer").text_content() == "The watch for drift begins anew."
        assert tab.page.evaluate("document.activeElement.textContent") == "Forget it and watch anew"
        assert tab.page.get_by_text("Drift:").count() == 0
        told = client.get(f"/v1/encoders/{encoder}/drift").json()
        assert (told["n"], told["alarm"]) == (0, False)


def _array(data: bytes) -> np.ndarray:
    found: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def _embed(client: httpx.Client, encoder: str, pictures: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, pictures)
    headers = {"content-type": NPY, "accept": NPY}
    answer = client.post(f"/v1/encoders/{encoder}/embed", content=stream.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text


def test_what_is_no_archive_is_refused_at_its_zone(tab: Tab, dropped: Path) -> None:
    tab.open("#/datasets")
    zone = tab.page.locator(".dropzone")
    tab.drop(zone, dropped)
    assert (
        "A folder cannot be sent. Put the pictures into one zip." in zone.get_by_role("alert").text_content()
    )
    tab.drop(zone, dropped / "one.png", dropped / "few.zip")
    assert "One file at a time. Put the pictures into one zip." in zone.get_by_role("alert").text_content()
    assert tab.page.get_by_role("progressbar").count() == 0


def test_an_upload_that_failed_says_why(tab: Tab, dropped: Path) -> None:
    zone = tab.page.locator(".dropzone")
    tab.drop(zone, dropped / "one.png")
    tab.page.get_by_text("This is a single image; send an archive of images.").wait_for()
    assert zone.get_by_role("alert").count() == 0
    tab.open("#/datasets/one.png")
    assert (
        tab.page.get_by_role("alert").text_content() == "✕ This is a single image; send an archive of images."
    )
    assert tab.page.get_by_text("not on this server").count() == 0
    tab.open("#/datasets")
    assert tab.page.get_by_role("row", name="one.png").locator(".badge").text_content() == "✕ failed"


def test_the_progress_of_a_dropped_zip_is_seen_and_announced(tab: Tab, dropped: Path) -> None:
    tab.note_upload()
    with tab.slow_upload(40_000):
        tab.drop(tab.page.locator(".dropzone"), dropped / "few.zip")
        tab.page.wait_for_url("**#/datasets/few")
    noted = tab.noted()
    sending = [(share, line) for share, line, _ in noted if line.startswith("sending few.zip: ")]
    assert any(share is not None and 0 < share < 1 for share, _ in sending)
    shares = [share for share, _ in sending if share is not None]
    assert shares == sorted(shares)
    assert "stay on this page" in sending[0][1]
    assert any(line.startswith("reading the pictures") for _, line, _ in noted)
    said = list(dict.fromkeys(text for _, _, text in noted))
    wanted = ["Sending few.zip.", "The server reads the pictures.", "few is ready"]
    assert [text for text in said if text in wanted] == wanted


def test_one_upload_at_a_time_which_a_server_away_does_not_end(tab: Tab, dropped: Path) -> None:
    away: list[Any] = []

    def once(route: Any) -> None:
        away.append(route)
        route.abort() if len(away) == 1 else route.continue_()

    leaves = "() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    tab.open("#/datasets")
    tab.page.route("**/v1/datasets/few-2", once)
    tab.note_upload()
    zone = tab.page.locator(".dropzone")
    with tab.slow_upload(40_000):
        tab.drop(zone, dropped / "few.zip")
        tab.page.get_by_text("sending few.zip: ").wait_for()
        assert not tab.page.evaluate(leaves), "the browser asks before it leaves"
        tab.drop(zone, dropped / "few.zip")
        assert "few.zip is still on its way" in zone.get_by_role("alert").text_content()
    tab.page.wait_for_url("**#/datasets/few-2")
    tab.page.wait_for_selector(".sheet canvas")
    tab.page.unroute("**/v1/datasets/few-2")
    assert tab.page.evaluate(leaves)
    assert any("The page looks again." in line for _, line, _ in tab.noted())
    assert "ERR_FAILED" in tab.errors.pop(), "the one that the browser tells"
    with _client(tab) as client:
        client.delete("/v1/datasets/few-2").raise_for_status()
    tab.open("#/datasets/few")


def test_dropped_pictures_become_drawn_ones_by_the_pages_alone(tab: Tab) -> None:
    tab.page.get_by_text("200", exact=True).wait_for()
    tab.page.get_by_role("link", name="Train an encoder on these").click()
    tab.page.get_by_role("group", name="Network").get_by_label("Dimensions d").fill("2")
    _start(tab, passes="4")
    tab.page.get_by_role("link", name="Open the encoder").click(timeout=180_000)
    tab.page.get_by_role("link", name="Choose its settings").click()
    network = tab.page.get_by_role("group", name="Network that draws")
    network.get_by_label("Width").fill("8")
    network.get_by_label("Steps").fill("2")
    _start(tab, passes="3")
    tab.page.get_by_role("link", name="Open the generator").click(timeout=180_000)
    tab.page.get_by_role("heading", name="few-encoder-pictures@1").wait_for()
    drawn = tab.page.locator("#drawn canvas")
    drawn.nth(15).wait_for()
    assert drawn.count() == 16
    for picture in drawn.all():
        assert len(set(picture.evaluate(GRAYS))) > 3
    assert tab.page.get_by_role("link", name="few-encoder@1").is_visible()


def _start(tab: Tab, *, passes: str) -> None:
    """Start the training of the form that is shown, a short one, and wait until its page is there."""
    tab.page.get_by_label("Passes over the pictures").fill(passes)
    tab.page.get_by_label("Evaluation").select_option("quick")
    tab.page.get_by_text(f"{passes} passes,").wait_for()
    tab.page.get_by_role("button", name="Start training").click()
    tab.page.wait_for_url("**#/jobs/job_*")


def test_generators_come_in_pages(tab: Tab) -> None:
    def fewer(route: Any) -> None:
        route.continue_(url=route.request.url.replace("limit=50", "limit=1"))

    tab.page.route("**/v1/generators?limit=50*", fewer)
    tab.open("#/generators?by=page")
    assert tab.page.get_by_role("link", name="drawings@1").count() == 0
    tab.page.get_by_role("link", name="Older ones").click()
    tab.page.get_by_role("link", name="drawings@1").wait_for()
    tab.page.unroute("**/v1/generators?limit=50*")


def test_the_settings_of_a_generator_are_the_start_of_the_next(tab: Tab) -> None:
    tab.open("#/jobs")
    tab.page.get_by_role("link", name="few-encoder-pictures").click()
    tab.page.get_by_role("link", name="Change and train again").click()
    tab.page.get_by_text("3 passes,").wait_for()
    assert tab.page.get_by_label("Encoder", exact=True).input_value() == "few-encoder@1"
    assert tab.page.get_by_label("Name of the generator").input_value() == "few-encoder-pictures"
    assert tab.page.get_by_label("Passes over the pictures").input_value() == "3"
    assert tab.page.get_by_role("group", name="Network that draws").get_by_label("Width").input_value() == "8"


def test_an_encoder_of_few_pictures_says_why_it_raises_no_alarm(tab: Tab) -> None:
    tab.open("#/encoders")
    tab.page.get_by_role("link", name="few-encoder@1").click()
    card = tab.page.get_by_role("region", name="Drift", exact=True)
    card.get_by_text("with 100 held-out images or more").wait_for()


def test_the_settings_of_an_encoder_that_are_defaults_follow_what_is_changed(tab: Tab) -> None:
    tab.open("#/jobs")
    tab.page.get_by_role("link", name="few-encoder", exact=True).click()
    tab.page.get_by_role("link", name="Change and train again").click()
    tab.page.get_by_text("4 passes,").wait_for()
    tab.page.get_by_text("All settings").click()
    dim = tab.page.get_by_role("group", name="Network").get_by_label("Dimensions d")
    sigma = tab.page.get_by_role("group", name="Noise").get_by_label("σ of the noise")
    assert (dim.input_value(), sigma.input_value()) == ("2", "")
    before = sigma.get_attribute("placeholder")
    assert before.endswith("(default)")
    dim.fill("4")
    tab.page.get_by_text("4 numbers").wait_for()
    assert sigma.get_attribute("placeholder") != before
    first = tab.page.get_by_label("First epochs")
    assert first.get_attribute("placeholder") == "none (default)"
    assert tab.page.get_by_role("group", name="Critic").get_by_label("Output size").is_visible()


def test_a_name_is_judged_with_the_settings(tab: Tab) -> None:
    tab.open("#/train?dataset=scans&by=name")
    name = tab.page.get_by_label("Name of the encoder")
    fault = tab.page.get_by_text("✕ Use small letters")
    refusal = tab.page.get_by_text("✕ A setting cannot be used; it says why beside it.")
    name.fill("Bad name")
    fault.wait_for()
    tab.page.get_by_role("button", name="Start training").click()
    refusal.wait_for()
    assert "422" in tab.errors.pop(), "the one that the browser tells"
    tab.page.get_by_label("Passes over the pictures").fill("9")
    tab.page.get_by_text("9 passes,").wait_for()
    assert (fault.count(), refusal.count()) == (1, 0)
    name.fill("better-name")
    fault.wait_for(state="detached")


def test_trainings_of_one_kind_are_compared(tab: Tab) -> None:
    tab.open("#/jobs")
    box = {
        name: tab.page.get_by_label(f"compare {name}", exact=True)
        for name in ("scans-encoder", "few-encoder")
    }
    box["scans-encoder"].check()
    other = tab.page.get_by_label("compare drawings", exact=True)
    assert other.is_disabled()
    assert "of one kind" in other.get_attribute("title")
    box["few-encoder"].check()
    tab.page.get_by_role("button", name="Compare").click()
    differ = tab.page.get_by_role("region", name="How they differ, table").text_content()
    assert "dataset" in differ
    assert tab.page.locator(".legend li").count() == 2
    tab.page.get_by_role("region", name="Information", exact=True).wait_for()
    tab.open("#/jobs")
    for name in ("drawings", "few-encoder-pictures"):
        tab.page.get_by_label(f"compare {name}", exact=True).check()
    tab.page.get_by_role("button", name="Compare").click()
    tab.page.get_by_role("region", name="Loss", exact=True).wait_for()
    gaps = tab.page.get_by_role("row", name="Prior gap").locator("td").all_text_contents()[1:]
    assert all(float(gap) > 0 for gap in gaps)


def test_an_encoder_of_a_handful_of_pictures_says_what_it_lacks(tab: Tab) -> None:
    broken = ("one/broken.png", b"no picture")
    few = {"encoder": {"kind": "conv", "dim": 3}, "epochs": 1, "evaluation": "quick"}
    with _client(tab) as client:
        files = {"file": ("handful.zip", _zipped([*_files()[:30], broken]))}
        client.post("/v1/datasets", data={"name": "handful"}, files=files).raise_for_status()
        spec = {"kind": "train", "dataset": "handful", **few}
        job = client.post("/v1/jobs", json={"spec": spec, "encoder": "handful-encoder"}).json()
    tab.open("#/datasets/handful")
    assert tab.page.get_by_role("heading", name="1 file was left out").is_visible()
    tab.open(f"#/jobs/{job['id']}")
    tab.page.get_by_role("link", name="Open the encoder").click(timeout=180_000)
    tab.page.get_by_text("A generator is measured with at least 8 held-out pictures").wait_for()
    assert tab.page.get_by_role("button", name="Make a generator").is_disabled()
    figures = tab.page.locator("dl.figures").first.text_content()
    assert "Information" in figures
    assert "–" not in figures


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_way_beyond_the_other_points_is_on_the_map(tab: Tab, dim: int) -> None:
    tab.open(f"#/encoders?by={dim}")
    path = [[float(9 * i)] * dim for i in range(4)]
    drawn = tab.page.evaluate(DASHED, {"dim": dim, "row": path[-1], "path": path})
    assert len(drawn["places"]) == 3
    assert all(0 <= x <= drawn["width"] and 0 <= y <= drawn["height"] for x, y in drawn["places"])
    assert (len({y for _, y in drawn["places"]}) == 1) == (dim == 1)


def test_every_view_is_named_readable_and_fits_a_phone(tab: Tab) -> None:
    tab.open("#/encoders")
    encoder = tab.page.locator("main table a").first.get_attribute("href")
    tab.open("#/jobs")
    job = tab.page.locator("main table a").last.get_attribute("href")
    tab.open("#/generators")
    generator = tab.page.locator("main table a").first.get_attribute("href")
    tab.page.set_viewport_size({"width": 360, "height": 740})
    for view in (*VIEWS, encoder, job, generator):
        tab.open(view)
        assert tab.found("unnamed()") == [], view
        assert tab.found("repeated()") == [], view
        for scheme in ("dark", "light"):
            tab.page.emulate_media(color_scheme=scheme)
            assert tab.found(f"faint({LEAST_CONTRAST})") == [], (view, scheme)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert tab.page.locator("h1").count() == 1, view
    tab.page.set_viewport_size({"width": 1200, "height": 800})


def test_the_checks_of_a_page_can_fail(tab: Tab) -> None:
    tab.open("#/")
    tab.page.evaluate("""() => document.querySelector('main').insertAdjacentHTML('beforeend',
        '<button><i></i></button><p id=main class=faint>faint</p>')""")
    tab.page.evaluate("() => { document.querySelector('.faint').style.color = '#ccc' }")
    assert len(tab.found("unnamed()")) == 1
    assert tab.found("repeated()") == ["main"]
    assert [text for _, text in tab.found(f"faint({LEAST_CONTRAST})")] == ["faint"]


def test_the_theme_can_be_chosen(tab: Tab) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(paper)
    tab.page.get_by_role("button", name="Dark").click()
    dark = tab.page.evaluate(paper)
    assert dark != light
    tab.page.reload()
    assert tab.page.evaluate(paper) == dark


def test_the_pictures_of_the_documentation_can_be_taken(
    tab: Tab, digits: tuple[bytes, bytes], tmp_path: Path
) -> None:
    shown = {"dataset": "scans", "encoder": "scans-encoder", "generator": "drawings"}
    pictures.take(tab, digits[1], **shown, folder=tmp_path)
    for path in tmp_path.iterdir():
        with Image.open(pictures.IMAGES / path.name) as stored, Image.open(path) as made:
            assert made.width == stored.width
            assert len(made.convert("RGB").getcolors(made.width * made.height)) > 50
    assert len(list(tmp_path.iterdir())) == 4
    tab.page.emulate_media(color_scheme="light")
    tab.page.set_viewport_size({"width": 1200, "height": 800})


def test_a_long_name_fits_a_phone(tab: Tab) -> None:
    with _client(tab) as client:
        body = {"spec": {"dataset": "scans"}, "encoder": "a" * 63}
        job = client.post("/v1/jobs", json=body).json()["id"]
        client.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    tab.page.set_viewport_size({"width": 360, "height": 740})
    for view in (f"#/jobs/{job}", "#/", "#/jobs"):
        tab.open(view)
        assert tab.page.get_by_text("a" * 63).count() > 0
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360, view
    tab.page.set_viewport_size({"width": 1200, "height": 800})


def test_nothing_failed_and_nothing_left_the_server(tab: Tab) -> None:
    assert tab.errors == []
    assert tab.elsewhere == []
