"""``nidim keys`` and ``nidim audit``: on the store itself, secrets once, errors that say what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.commands import audit_command, keys_command
from service.settings import Settings
from service.store import audit, keys, open_store
from service.store.audit import By


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``run("create", "--name", …)`` on a directory of its own; ``audit`` goes to the other command."""
    monkeypatch.setenv("NIDIM_DATA_DIR", str(tmp_path / "data"))

    def invoke(*arguments: str) -> Result:
        command, rest = (
            (audit_command, arguments[1:]) if arguments[0] == "audit" else (keys_command, arguments)
        )
        return CliRunner().invoke(command, list(rest))

    return invoke


@pytest.fixture
def verify(tmp_path: Path):
    """What the server would say of a secret."""

    def look(secret: str):
        store = open_store(Settings(data_dir=tmp_path / "data"))
        with store.session() as tx:
            key = keys.verify(tx, secret, pepper=store.pepper)
        store.close()
        return key

    return look


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_create_prints_the_secret_alone_and_once(run, verify) -> None:
    made = run("create", "--name", "ci", "--scope", "embed", "--scope", "read", "--expires-in", "90d")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("nk_")
    assert secret not in made.stderr
    assert "shown this once" in made.stderr
    key = verify(secret)
    assert (key.name, key.scopes) == ("ci", ("read", "embed"))
    assert abs(key.expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    for shown in (run("list"), run("list", "--json"), run("audit"), run("audit", "--json")):
        assert shown.exit_code == 0
        assert key.id in shown.stdout
        assert secret not in shown.output
        assert secret[11:] not in shown.output


def test_keys_of_which_none_administers_come_with_a_warning(run) -> None:
    assert "no admin key" in run("create", "--name", "a", "--scope", "read").stderr
    first = run("create", "--name", "b", "--scope", "admin")
    assert "no admin key" not in first.stderr
    assert "no admin key" not in run("create", "--name", "c", "--scope", "read").stderr
    run("revoke", first.stderr.split(":")[0])
    assert "no admin key" in run("create", "--name", "d", "--scope", "read").stderr


def test_json_is_one_object_a_line(run, verify) -> None:
    made = lines(run("create", "--name", "a", "--scope", "admin", "--json"))[0]
    assert verify(made["key"]).id == made["id"]
    run("create", "--name", "b", "--scope", "read")
    listed = lines(run("list", "--json"))
    assert [key["name"] for key in listed] == ["b", "a"]
    assert all("key" not in key and key["state"] == "active" for key in listed)
    assert listed[1]["scopes"] == ["admin"]
    assert listed[1]["expires_at"] is None


def test_a_revoked_key_is_useless_and_shown_so(run, verify) -> None:
    made = lines(run("create", "--name", "a", "--scope", "read", "--json"))[0]
    for _ in range(2):
        revoked = run("revoke", made["id"])
        assert (revoked.exit_code, revoked.stdout) == (0, f"{made['id']} (a) is revoked.\n")
    assert verify(made["key"]) is None
    assert lines(run("list", "--json"))[0]["state"] == "revoked"
    noted = lines(run("audit", "--json"))
    assert [(entry["who"], entry["action"]) for entry in noted] == [
        ("cli", "key.revoke"),
        ("cli", "key.create"),
    ]


def test_the_audit_log_is_shown_page_by_page_and_safely(run, tmp_path: Path) -> None:
    run("create", "--name", "a", "--scope", "read")
    store = open_store(Settings(data_dir=tmp_path / "data"))
    with store.begin() as tx:
        for number in range(1200):
            audit.record(tx, By("open", f"r{number}"), "job.submit", "job_\x1b[31m")
    store.close()
    assert len(lines(run("audit", "--json", "--limit", "5000"))) == 1201
    assert len(lines(run("audit", "--json", "--who", "cli"))) == 1
    newest = lines(run("audit", "--json", "--limit", "1"))
    assert [entry["request_id"] for entry in newest] == ["r1199"]
    assert "\x1b" not in run("audit").stdout


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("create", "--name", "a"), "--scope"),
        (("create", "--scope", "read"), "--name"),
        (("create", "--name", "a", "--scope", "root"), "'read', 'train', 'embed', 'admin'"),
        (("create", "--name", "a", "--scope", "read", "--expires-in", "soon"), "90d, 12h, 30m, 45s or 2w"),
        (("create", "--name", "a", "--scope", "read", "--expires-in", "999999999w"), "90d"),
        (("create", "--name", "a", "--scope", "read", "--expires-in", "0d"), "90d"),
        (("create", "--name", "a\nb", "--scope", "read"), "printable ASCII"),
        (("create", "--name", "a" * 101, "--scope", "read"), "1 to 100"),
        (("list",), "--data-dir"),
        (("revoke", "key_x"), "--data-dir"),
        (("audit",), "--data-dir"),
    ],
)
def test_errors_say_what_to_do(run, tmp_path: Path, arguments: tuple[str, ...], advice: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert advice in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "data").exists(), "a mistake makes no store"


def test_errors_of_the_store_are_advice(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("create", "--name", "a", "--scope", "read")
    assert "nidim keys list" in run("revoke", "nobody").stderr
    assert "nidim keys list" in run("revoke", "key_" + "0" * 26).stderr
    (tmp_path / "data" / "pepper").write_bytes(b"short")
    assert "damaged" in run("create", "--name", "b", "--scope", "read").stderr
    monkeypatch.setenv("NIDIM_LEASE_S", "x")
    assert "lease_s" in run("list").stderr
    monkeypatch.delenv("NIDIM_LEASE_S")
    monkeypatch.setenv("NIDIM_DATABASE_URL", "postgresql://me:hidden@127.0.0.1:1/none")
    refused = run("list")
    assert refused.exit_code == 1
    assert "NIDIM_DATABASE_URL" in refused.stderr
    assert "hidden" not in refused.stderr


def test_an_empty_list_says_how_to_begin(run, tmp_path: Path) -> None:
    open_store(Settings(data_dir=tmp_path / "data")).close()
    assert "nidim keys create" in run("list").stderr
    assert run("list", "--json").stdout == ""


def test_they_work_on_each_database(store, store_settings, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_DATA_DIR", str(store_settings.data_dir))
    monkeypatch.setenv("NIDIM_DATABASE_URL", store_settings.database_url)
    made = lines(run("create", "--name", "a", "--scope", "read", "--json"))[0]
    with store.session() as tx:
        assert keys.verify(tx, made["key"], pepper=store.pepper).id == made["id"]
    assert run("revoke", made["id"]).exit_code == 0
    assert [key["state"] for key in lines(run("list", "--json"))] == ["revoked"]
    assert [entry["action"] for entry in lines(run("audit", "--json"))] == ["key.revoke", "key.create"]


def test_they_are_commands_of_nidim(tmp_path: Path) -> None:
    nidim = shutil.which("nidim", path=str(Path(sys.executable).parent))
    assert nidim is not None
    made = subprocess.run(
        [nidim, "keys", "create", "--name", "a", "--scope", "read", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("nk_")
    shown = subprocess.run(
        [nidim, "audit", "--data-dir", str(tmp_path), "--json"], capture_output=True, text=True, timeout=120
    )
    assert json.loads(shown.stdout)["action"] == "key.create"
