"""``python -m docs.pictures``: the pictures of the report and of the dashboard in images/, as they are now.

The report is that of the last ``make demo``; the dashboard belongs to a stack that is started for it, where an encoder
of handwritten digits and a generator are trained first. Needs Chromium; minutes.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from nidim.client import Client
from nidim.data import load_builtin
from nidim.generate.pictures import png
from tests.browser import Tab, browser_tab
from tests.e2e.conftest import stack

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
REPORT = ROOT / "demo-out" / "report.html"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SET, ENCODER, GENERATOR = "handwriting", "digits-2d", "digits-painter"


def archive() -> bytes:
    """A zip of the digits in folders of their classes."""
    digits, stream = load_builtin("digits", root=None), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for split in (digits.train, digits.test):
            for i, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
                written.writestr(f"{CLASSES[label]}/{len(split.images)}-{i}.png", png(image))
    return stream.getvalue()


def prepare(url: str, folder: Path) -> None:
    """A set of pictures, an encoder of two dimensions and a generator, all by their defaults."""
    (folder / "digits.zip").write_bytes(archive())
    with Client(url) as client:
        client.datasets.upload(SET, folder / "digits.zip")
        spec = {"dataset": SET, "encoder": {"kind": "conv", "dim": 2}}
        client.train(spec, encoder=ENCODER).wait(progress=True)
        client.train({"kind": "generator", "source": ENCODER}, generator=GENERATOR).wait(progress=True)


def show(tab: Tab, file: Path, width: int, height: int, *, whole: bool = False) -> None:
    """Write what the tab shows in a window of that size, or the whole page at that width."""
    tab.page.set_viewport_size({"width": width, "height": height})
    tab.page.wait_for_load_state("networkidle")
    if whole:
        tab.page.evaluate("() => window.scrollTo(0, 0)")  # the head sticks to the top of the window
    tab.page.screenshot(path=file, full_page=whole)


def take(tab: Tab, picture: bytes, *, dataset: str, encoder: str, generator: str, folder: Path) -> None:
    """The pictures of the dashboard into ``folder``: of that set, encoder and generator, with ``picture`` dropped."""
    dropped = {"name": "mine.png", "mimeType": "image/png", "buffer": picture}
    page = tab.page
    page.set_viewport_size({"width": 1100, "height": 1160})
    tab.open(f"#/encoders/{encoder}@1")
    page.wait_for_selector("canvas.scatter")
    page.set_input_files(".dropzone input", dropped)
    page.wait_for_selector("#tried-p")
    chart = page.get_by_role("img", name="held-out pictures").first
    chart.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Walk from here").click()
    page.get_by_role("region", name="Try it").evaluate("node => window.scrollTo(0, node.offsetTop - 74)")
    show(tab, folder / "dashboard-encoder.png", 1100, 1160)

    tab.open(f"#/train?dataset={dataset}")
    page.get_by_role("group", name="Network").get_by_label("Dimensions d").fill("64")
    page.get_by_text("certificate out of reach").wait_for()
    show(tab, folder / "dashboard-train.png", 1100, 860)

    tab.open(f"#/generators/{generator}@1")
    page.set_input_files(".dropzone input", dropped)
    page.get_by_text("drawn from its embedding").wait_for()
    page.locator("#drawn canvas").nth(15).wait_for()
    page.locator(".walk .sheet canvas").nth(14).wait_for()
    page.get_by_label("Along the way").fill("7")
    show(tab, folder / "dashboard-generator.png", 1100, 860, whole=True)

    page.set_viewport_size({"width": 360, "height": 780})
    page.emulate_media(color_scheme="dark")
    tab.open("#/")
    show(tab, folder / "dashboard-phone.png", 360, 780)


def main() -> None:
    """Take them all anew."""
    if not REPORT.is_file():
        sys.exit(f"{REPORT} is not there: make demo writes it")
    digits = load_builtin("digits", root=None).test
    three = png(digits.images[np.flatnonzero(digits.labels == 3)[0]])
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder) / "data", "--workers", "1") as (url, _):
        prepare(url, Path(folder))
        with browser_tab(url) as tab:
            take(tab, three, dataset=SET, encoder=ENCODER, generator=GENERATOR, folder=IMAGES)
            tab.page.emulate_media(color_scheme="light")
            tab.page.goto(REPORT.as_uri())
            show(tab, IMAGES / "report.png", 1200, 1450)


if __name__ == "__main__":
    main()
