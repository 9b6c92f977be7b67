"""Keys, scopes, and who may use a server without keys."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.exposure import check_exposure
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
SECRET = "nk_" + secrets.token_urlsafe(32)


@pytest.fixture(scope="module")
def locked(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with a bootstrap key."""
    with start_server(tmp_path_factory.mktemp("locked"), bootstrap_key=SECRET) as server:
        yield server


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_key_is_asked_for_before_the_body_is_read(locked: Any, is_problem: Any) -> None:
    kind = {"content-type": "application/json"}
    is_problem(locked.client.post("/v1/jobs", content=b"{", headers=kind), 401, "no_key")
    is_problem(locked.client.get("/v1/jobs", params={"limit": "x"}), 401, "no_key")


def new_key(locked: Any, *scopes: str, **more: Any) -> dict[str, Any]:
    body = {"name": "test", "scopes": scopes, **more}
    answer = locked.client.post("/v1/keys", json=body, headers=bearer(SECRET))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_keys_are_shown_once_and_can_be_revoked(locked: Any, is_problem: Any) -> None:
    made = new_key(locked, "read", "embed")
    assert made["key"].startswith("nk_")
    listed = locked.client.get("/v1/keys", headers=bearer(SECRET)).text
    assert made["id"] in listed
    assert made["key"] not in listed
    assert locked.client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 200
    assert locked.client.delete(f"/v1/keys/{made['id']}", headers=bearer(SECRET)).status_code == 204
    is_problem(locked.client.get("/v1/jobs", headers=bearer(made["key"])), 401, "bad_key")
    is_problem(locked.client.delete("/v1/keys/nothing", headers=bearer(SECRET)), 404, "not_found")
    for secret in (made["key"], SECRET):
        assert secret not in locked.log.read_text()


def test_bad_keys_are_not_made(locked: Any, is_problem: Any) -> None:
    for body, pointer in (
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "x", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "", "scopes": ["read"]}, "/name"),
        ({"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "x", "scopes": ["read"], "expires_at": "soon"}, "/expires_at"),
    ):
        answer = locked.client.post("/v1/keys", json=body, headers=bearer(SECRET))
        is_problem(answer, 422, "invalid_value", pointer)


def test_what_one_key_did_is_not_replayed_to_another(locked: Any) -> None:
    body = {"spec": {"dataset": "digits"}, "encoder": "x"}
    made = [new_key(locked, "train")["key"] for _ in range(2)]
    ids = {
        locked.client.post("/v1/jobs", json=body, headers={**bearer(key), "Idempotency-Key": "same"}).json()[
            "id"
        ]
        for key in made
    }
    assert len(ids) == 2


def test_without_keys_web_pages_from_elsewhere_are_refused(api: httpx.Client, is_problem: Any) -> None:
    url = "/v1/jobs"
    own = str(api.base_url).rstrip("/")
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]", "["):
        is_problem(api.get(url, headers={"host": host}), 403, "host_not_allowed")
    for origin in ("http://evil.example", "null", "http://localhost:1", "file://", own + ".evil.example"):
        is_problem(api.get(url, headers={"origin": origin}), 403, "origin_not_allowed")
    is_problem(api.get(url, headers={"sec-fetch-site": "cross-site"}), 403, "origin_not_allowed")
    is_problem(api.get("/metrics", headers={"host": "evil.example"}), 403, "host_not_allowed")
    for headers in (
        {"origin": own},
        {"sec-fetch-site": "same-origin"},
        {"host": "localhost:8000"},
        {"host": "[::1]"},
        bearer("nk_whatever"),
    ):
        assert api.get(url, headers=headers).status_code == 200, headers


def test_the_first_key_closes_an_open_server(start_server: Any, tmp_path: Any, is_problem: Any) -> None:
    with start_server(tmp_path) as server:
        assert server.client.get("/v1/jobs").status_code == 200
        made = server.client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]}).json()
        is_problem(server.client.get("/v1/jobs"), 401, "no_key")
        assert server.client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 200
        dump = (tmp_path / "nidim.db").read_bytes() + (tmp_path / "nidim.db-wal").read_bytes()
        assert made["key"].encode() not in dump


def test_an_exposed_server_refuses_to_start(tmp_path: Any) -> None:
    env = {"NIDIM_HOST": "0.0.0.0", "NIDIM_DATA_DIR": str(tmp_path), "NIDIM_PORT": "0", "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "service.serve"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "NIDIM_BOOTSTRAP_KEY" in done.stderr + done.stdout
    for host, has_keys, refused in (
        *(("127.0.0.1", False, False), ("::1", False, False), ("localhost", False, False)),
        *(
            ("0.0.0.0", False, True),
            ("::", False, True),
            ("example.org", False, True),
            ("0.0.0.0", True, False),
        ),
    ):
        assert (check_exposure(Settings(host=host), has_keys=has_keys) is not None) == refused


def test_a_weak_bootstrap_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.findall(r"NIDIM_BOOTSTRAP_KEY=(\S+)", (ROOT / "docker" / "example.env").read_text())
    assert example
    for weak in (*example, "nk_short-but-telling", "x" * 50, "nk_" + "σ" * 40, "nk_" + "a b" * 20):
        monkeypatch.setenv("NIDIM_BOOTSTRAP_KEY", weak)
        with pytest.raises(ValidationError, match="at least 32 random characters") as refused:
            Settings()
        assert weak not in str(refused.value)
    monkeypatch.setenv("NIDIM_BOOTSTRAP_KEY", "")
    assert Settings().bootstrap_key is None
    assert check_exposure(Settings(host="0.0.0.0"), has_keys=False) is not None


def test_settings_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from service.settings_command import settings_command
    from service.settings_command import shown as shown_value

    monkeypatch.setenv("NIDIM_BOOTSTRAP_KEY", SECRET)
    monkeypatch.setenv("NIDIM_DATABASE_URL", "postgresql://me:hidden@db/nidim")
    shown = CliRunner().invoke(settings_command).output
    assert SECRET not in shown
    assert "hidden" not in shown
    for name, field in Settings.model_fields.items():
        assert f"NIDIM_{name.upper()}=" in shown
        assert field.description
    assert json.dumps(SECRET) not in repr(Settings())
    for url in (
        "postgresql://me:hid/den@db/nidim",
        "redis://:hid@den@db",
        "postgresql://db/n?password=hidden",
    ):
        assert "hid" not in shown_value(url)
        assert "db" in shown_value(url)


def test_a_short_pepper_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_KEY_PEPPER", "peppercorn")
    with pytest.raises(ValidationError, match="openssl rand") as caught:
        Settings()
    assert "peppercorn" not in str(caught.value)
    monkeypatch.setenv("NIDIM_KEY_PEPPER", "p" * 16)
    assert Settings().key_pepper is not None
    monkeypatch.setenv("NIDIM_KEY_PEPPER", "")
    assert Settings().key_pepper is None
