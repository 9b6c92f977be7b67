"""The dashboard of a server that has API keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browser import Tab, browser_tab, require_browser
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow

SECRET = "nk_" + "the-door-of-the-dashboard-0123456789abcdef"


@pytest.fixture(scope="module")
def tab(start_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser on a server with one key, which the browser does not know."""
    require_browser()
    directory = tmp_path_factory.mktemp("keys") / "data"
    with pytest.MonkeyPatch.context() as env:
        env.setenv("NIDIM_BOOTSTRAP_KEY", SECRET)
        with start_stack(directory, "--workers", "0") as (url, _), browser_tab(url) as found:
            yield found


def test_the_key_is_asked_for_until_it_opens(tab: Tab) -> None:
    tab.page.goto(tab.url)
    dialog = tab.page.get_by_role("dialog", name="API key")
    dialog.get_by_text("This server asks for an API key.").wait_for()
    _give(tab, "nk_of-another-door")
    dialog.get_by_text("The key is unknown, revoked or expired.").wait_for()
    assert tab.page.evaluate("document.activeElement.id") == "key-input"
    _give(tab, SECRET)
    tab.page.get_by_role("heading", name="From your pictures to an encoder").wait_for()
    assert not dialog.is_visible()
    assert tab.page.get_by_role("button", name="Change key").is_visible()


def test_a_key_that_ended_leaves_what_was_typed(tab: Tab) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=tab.url, trust_env=False, timeout=SECONDS, headers=headers) as client:
        wanted = {"name": "short", "scopes": ["read", "train"]}
        short = client.post("/v1/keys", json=wanted).raise_for_status().json()
        tab.page.get_by_role("button", name="Change key").click()
        _give(tab, short["key"])
        tab.open("#/train?dataset=digits")
        client.delete(f"/v1/keys/{short['id']}").raise_for_status()
    passes = tab.page.get_by_label("Passes over the pictures")
    passes.fill("8")
    tab.page.get_by_role("dialog").get_by_text("revoked or expired").wait_for()
    _give(tab, SECRET)
    tab.page.get_by_text("8 passes,").wait_for()
    assert passes.input_value() == "8"
    assert tab.page.evaluate("document.activeElement.labels?.[0]?.textContent") == "Passes over the pictures"


def _give(tab: Tab, key: str) -> None:
    tab.page.get_by_label("Key", exact=True).fill(key)
    tab.page.keyboard.press("Enter")
