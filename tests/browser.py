"""A real browser on the dashboard, and what went wrong behind a page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import SECONDS

CHROMIUM = Path("/usr/bin/chromium")
CHECKS = Path(__file__).with_name("page_checks.js").read_text()

NOTE_UPLOAD = """() => {
    window.noted = [];
    new MutationObserver(() => {
        const bar = document.querySelector('.uploader progress');
        window.noted.push([
            bar?.getAttribute('value') ?? null, bar?.nextSibling.textContent ?? '',
            document.getElementById('announcer').textContent,
        ]);
    }).observe(document.body, { subtree: true, childList: true, characterData: true, attributeFilter: ['value'] });
}"""


@dataclass
class Tab:
    """A page, and what went wrong behind it."""

    page: Any
    url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request", lambda r: self.elsewhere.append(r.url) if not r.url.startswith(self.url) else None
        )
        self._protocol = self.page.context.new_cdp_session(self.page)
        self._protocol.send("Network.enable")

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

    def drop(self, zone: Any, *paths: Path) -> None:
        """Drag files over the middle of ``zone`` and let them go, as the browser gets it from the system."""
        zone.scroll_into_view_if_needed()
        box = zone.bounding_box()
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._protocol.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})

    @contextlib.contextmanager
    def slow_upload(self, bytes_per_s: int) -> Iterator[None]:
        """What the page sends meanwhile takes its time."""
        self._limit(bytes_per_s)
        try:
            yield
        finally:
            self._limit(-1)

    def _limit(self, bytes_per_s: int) -> None:
        rates = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
        self._protocol.send("Network.emulateNetworkConditions", rates)

    def note_upload(self) -> None:
        """From now on: :meth:`noted`."""
        self.page.evaluate(NOTE_UPLOAD)

    def noted(self) -> list[tuple[float | None, str, str]]:
        """What an upload showed: the bar's value, the line below it, what was announced; one entry a change."""
        rows = self.page.evaluate("() => window.noted")
        return [(None if value is None else float(value), line, said) for value, line, said in rows]


def require_browser() -> Any:
    """Playwright; skips where it or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    return playwright


@contextlib.contextmanager
def browser_tab(url: str) -> Iterator[Tab]:
    """A tab of Chromium at desktop width."""
    with require_browser().sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-proxy-server"])
        tab = Tab(browser.new_page(viewport={"width": 1200, "height": 800}), url.rstrip("/"))
        tab.page.set_default_timeout(1000 * SECONDS)
        yield tab
        browser.close()
