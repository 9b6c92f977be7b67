"""docs/backup.md: its commands do what it says, and it names every finding."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.backup import backup_command, restore_command
from service.doctor import doctor_command
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "backup.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
nidim = click.Group(commands={"backup": backup_command, "restore": restore_command, "doctor": doctor_command})


def test_the_commands_of_the_page_work(sqlite_store, tmp_path, new_encoder, monkeypatch):
    """Those that name no other machine, in their order."""
    files = {"m": dict(zip(("digest", "size"), sqlite_store.blobs.put_bytes(b"weights"), strict=True))}
    new_encoder(sqlite_store, manifest={"digest": "sha256:x", "files": files})
    sqlite_store.engine.dispose()
    root = tmp_path.with_name(f"{tmp_path.name}-page")
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("NIDIM_DISK_RESERVE_BYTES", "0")
    (root / "data").symlink_to(tmp_path)
    commands = [line for block in BLOCKS for line in block.splitlines() if "export" not in block]
    assert [shlex.split(line)[1] for line in commands] == ["backup", "restore", "doctor", "doctor"]
    for line in commands:
        result = CliRunner().invoke(nidim, shlex.split(line)[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(nidim, ["doctor", "--deep", "--data-dir", "restored"])
    assert result.output.startswith("0 findings")


def test_every_finding_is_in_the_table():
    source = "".join(path.read_text() for path in (ROOT / "service" / "store" / "checkup").glob("*.py"))
    source += (ROOT / "service" / "doctor.py").read_text()
    codes = set(re.findall(r'(?:problem|note)\(\s*f?"([a-z_{}]+)"', source))
    written = {code.replace("{word}", word) for code in codes for word in ("gone", "damaged")}
    table = PAGE[PAGE.index("| finding |") : PAGE.index("An encoder whose file")]
    assert written == set(re.findall(r"`([a-z]+_?[a-z_]+)`", table))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"NIDIM_([A-Z_]+)", PAGE))))
def test_every_setting_exists(name):
    assert name.lower() in Settings.model_fields
