"""docs/backup.md: its commands do what it says, and it names every finding."""

from __future__ import annotations

import re
import shlex
from contextlib import closing

import click
import pytest
from click.testing import CliRunner

from service.backup import backup_command, restore_command
from service.doctor import doctor_command
from service.settings import Settings
from service.store import encoders, open_store
from tests.blocks import ROOT, session, shell

PAGE = (ROOT / "docs" / "backup.md").read_text()
nidim = click.Group(commands={"backup": backup_command, "restore": restore_command, "doctor": doctor_command})


@pytest.fixture
def folder(sqlite_store, tmp_path, new_encoder, monkeypatch):
    """The current directory, with an encoder in the store ``data``."""
    files = {"m": dict(zip(("digest", "size"), sqlite_store.blobs.put_bytes(b"weights"), strict=True))}
    new_encoder(sqlite_store, manifest={"digest": "sha256:x", "files": files})
    sqlite_store.engine.dispose()
    root = tmp_path.with_name(f"{tmp_path.name}-page")
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("NIDIM_DISK_RESERVE_BYTES", "0")
    (root / "data").symlink_to(tmp_path)
    return root


def run(line):
    """What a command of the page prints."""
    result = CliRunner().invoke(nidim, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_of_the_page_work(folder):
    """Those that name no other machine, in their order."""
    commands = [line for line in session("docs/backup.md", "backup-session").splitlines() if line]
    assert [shlex.split(line)[1] for line in commands] == ["backup", "restore", "doctor", "doctor"]
    for line in commands:
        run(line)
    assert run("nidim doctor --deep --data-dir restored").startswith("0 findings")


def test_a_backup_moves_to_postgresql_and_s3_as_the_page_says(
    folder, empty, use_s3, s3_endpoint, new_bucket, tmp_path
):
    run("nidim backup monday.tar --data-dir data")
    use_s3()
    place = empty("postgresql", f"s3://{new_bucket(s3_endpoint)}/nidim")
    script = session("docs/backup.md", "move-session")
    for named, here in (
        ("postgresql://…", place.database_url),
        ("s3://bucket/nidim", place.blob_url),
        ("/srv/nidim", str(place.data_dir)),
    ):
        assert named in script
        script = script.replace(named, here)
    done = shell(script, folder)
    assert done.returncode == 0, done.stderr
    with closing(open_store(place)) as store, store.session() as tx:
        assert [encoder.name for encoder in encoders.list_(tx, limit=10).items] == ["faces"]
        assert len(list(store.blobs.list_())) == 1


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
