"""The commands of docs/operations.md and docs/security.md, run as they stand against a real server with keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.blocks import session, shell

KEY = "nk_" + "k" * 40
Run = Callable[[str], str]


@pytest.fixture(scope="module")
def keyed(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that has its first key."""
    with start_server(tmp_path_factory.mktemp("keyed") / "data", bootstrap_key=KEY) as running:
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture
def run(keyed: Any, tmp_path: Path) -> Run:
    """``run(script)`` -> what it prints, in a shell whose commands know this server and its store."""
    environment = {
        "NIDIM": keyed.url,
        "KEY": KEY,
        "NO_PROXY": "127.0.0.1",
        "NIDIM_BOOTSTRAP_KEY": KEY,
        "NIDIM_DATA_DIR": str(keyed.settings.data_dir),
    }

    def ended(script: str) -> str:
        done = shell(script, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ended


def test_looking_at_a_running_server(run: Run) -> None:
    said = run(session("docs/operations.md", "look-session"))
    assert '"degraded":["broker"]' in said
    assert 'nidim_jobs{state="queued"} 0.0' in said
    assert said.count('"items":[]') == 2
    assert "NIDIM_LEASE_S=30.0" in said
    assert KEY not in said


@pytest.fixture
def other(keyed: Any) -> str:
    """The id of a key that the first one has made."""
    made = keyed.client.post("/v1/keys", json={"name": "other", "scopes": ["read"]})
    assert made.status_code == 201, made.text
    return made.json()["id"]


def test_keys_are_made_listed_and_revoked(keyed: Any, run: Run, other: str) -> None:
    script = session("docs/security.md", "keys-session")
    assert script.endswith("nidim keys revoke key_…\n")
    said = run(script.replace("key_…", other))
    admin, ci = (line for line in said.splitlines() if line.startswith("nk_"))
    for secret, status in ((admin, 200), (ci, 403)):
        asked = keyed.client.get("/v1/audit", headers={"Authorization": f"Bearer {secret}"})
        assert asked.status_code == status
    assert said.endswith(f"{other} (other) is revoked.\n")


def test_the_audit_log_is_read(keyed: Any, run: Run, other: str, tmp_path: Path) -> None:
    (first,) = (
        entry["who"] for entry in keyed.client.get("/v1/audit").json()["items"] if entry["target"] == other
    )
    script = session("docs/security.md", "audit-session").replace("http://127.0.0.1:8000", keyed.url)
    said = run(script.replace("key_…", first))
    shown, _, answer = said.rpartition("\n{")
    written = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert other in shown
    assert other in [entry["target"] for entry in written]
    assert [entry["target"] for entry in json.loads("{" + answer)["items"]] == [e["target"] for e in written]
