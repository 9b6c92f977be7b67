"""The dashboard in a real browser, through the real stack: from a zip of pictures to what the encoder says of one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
VIEWS = (
    "#/",
    "#/datasets",
    "#/datasets/scans",
    "#/train?dataset=scans",
    "#/jobs",
    "#/encoders",
    "#/generators",
)
LEAST_CONTRAST = 4.5
CLASSES = ("zero", "one", "two", "three", "four")

CHECKS = Path(__file__).with_name("page_checks.js").read_text()


@dataclass
class Tab:
    """A page, and what went wrong behind it."""

    page: Any
    url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request", lambda r: self.elsewhere.append(r.url) if not r.url.startswith(self.url) else None
        )

    def _heard(self, message: Any) -> None:
        """The browser notes every 422; that of a spec which is checked while one types is what the form shows."""
        if message.type in ("error", "warning") and not message.location["url"].endswith("/v1/jobs/check"):
            self.errors.append(f"{message.text} {message.location}")

    def found(self, check: str) -> list[Any]:
        """What a check of page_checks.js finds."""
        wrong: list[Any] = self.page.evaluate(f"{CHECKS}.{check}")
        return wrong

    def open(self, view: str) -> None:
        self.page.goto(f"{self.url}/{view}")
        self.page.wait_for_selector(f'main[data-shown="{view}"]:not([aria-busy]) h1')


@pytest.fixture(scope="module")
def tab(start_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser on an empty server of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    directory = tmp_path_factory.mktemp("dashboard") / "data"
    with start_stack(directory, "--workers", "1") as (url, _), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-proxy-server"])
        found = Tab(browser.new_page(viewport={"width": 1200, "height": 800}), url.rstrip("/"))
        found.page.set_default_timeout(20_000)
        found.watch()
        yield found
        browser.close()


@pytest.fixture(scope="module")
def digits() -> tuple[bytes, bytes]:
    """A zip of handwritten digits up to four in class folders; one of the pictures alone."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    files = [
        (f"{CLASSES[label]}/{i}.png", _png(image))
        for i, (image, label) in enumerate(zip(bunch.images, bunch.target, strict=True))
        if label < len(CLASSES)
    ]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)
    return stream.getvalue(), files[0][1]


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


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
    tab.page.get_by_text("Version 1 is registered.").wait_for(timeout=90_000)
    assert tab.page.get_by_text("100 %").is_visible()
    assert "storing" in tab.page.get_by_role("log").text_content()
    chart = tab.page.get_by_role("img", name="Information over the training")
    assert "capacity C 3.26" in chart.get_attribute("aria-label")
    drawn = chart.locator("path.line").get_attribute("d")
    assert "L" in drawn or drawn.endswith("h0"), "a training of less than a second has one point"


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


def test_a_generator_is_one_button_away_and_can_be_cancelled(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Make a generator").click()
    tab.page.get_by_role("button", name="Cancel").click()
    tab.page.get_by_text("A retry goes on from its last checkpoint.").wait_for()
    assert tab.page.get_by_role("button", name="Retry").is_visible()


def test_new_pictures_are_drawn(tab: Tab, digits: tuple[bytes, bytes]) -> None:
    small = {"kind": "flow_matching", "width": 8, "steps": 2}
    quick = {"epochs": 1, "evaluation": "quick"}
    spec = {"kind": "generator", "source": "scans-encoder", "model": small, **quick}
    with httpx.Client(base_url=tab.url, trust_env=False) as client:
        job = client.post("/v1/jobs", json={"spec": spec, "generator": "drawings"}).json()
    tab.open(f"#/jobs/{job['id']}")
    tab.page.get_by_role("link", name="Open the generator").click(timeout=90_000)
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
    with httpx.Client(base_url=tab.url, trust_env=False) as client:
        gap = client.get("/v1/generators/drawings").json()["report"]["prior_gap"]
    figures = tab.page.locator("dl.figures").text_content()
    assert f"Prior gap{gap:.2f}" in figures
    assert "Fréchet distance" in figures
    assert tab.page.get_by_role("img", name="Loss over the training").locator("path.line").count() == 1
    tab.open("#/generators")
    row = tab.page.get_by_role("row", name="drawings@1")
    assert f"{gap:.2f}" in row.text_content()
    assert row.get_by_role("link", name="scans-encoder@1").is_visible()


def test_trainings_are_compared(tab: Tab) -> None:
    tab.open("#/jobs")
    for box in tab.page.get_by_role("checkbox").all()[-2:]:
        box.check()
    tab.page.get_by_role("button", name="Compare").click()
    differ = tab.page.get_by_role("region", name="How they differ, table").text_content()
    assert "encoder.dim" in differ
    assert tab.page.locator(".legend li").count() == 2


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


def test_nothing_failed_and_nothing_left_the_server(tab: Tab) -> None:
    assert tab.errors == []
    assert tab.elsewhere == []
