"""Migrations with data in them: a database of the first schema, frozen in a file, through every revision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import MetaData, create_engine, text

from service.errors import StateConflict
from service.store import datasets, encoders, events, idempotency, jobs, keys, open_store, snapshot
from service.store.encoders import aliases
from service.store.engine import database_url, make_engine
from service.store.migrate import SchemaTooNew, head, migrate, revision, revisions
from service.store.tables import Base

FROZEN = Path(__file__).parent / "data" / "schema_0001.jsonl"
PEPPER = b"pepper of the frozen database 01"
SECRET = "nk_" + "frozen" * 8
OPEN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from service.store import open_store

print("ready", flush=True)
sys.stdin.readline()
open_store(SimpleNamespace(data_dir=Path(sys.argv[1]), database_url=sys.argv[2], blob_url="")).close()
"""


def frozen_rows():
    entries = [json.loads(line) for line in FROZEN.read_text().splitlines()]
    by_table = {}
    for entry in entries:
        by_table.setdefault(entry["table"], []).append(entry["row"])
    return by_table


def fill(engine):
    """The frozen rows into the first schema."""
    migrate(engine, "0001")
    wanted = frozen_rows()
    with engine.begin() as connection:
        for table in snapshot.tables(connection):
            values = (snapshot.from_line(table, json.dumps(row)) for row in wanted.pop(table.name, []))
            snapshot.write_rows(connection, table, values)
    assert wanted == {}


def counts(engine):
    with engine.connect() as connection:
        return {
            table.name: len(list(snapshot.rows(connection, table))) for table in snapshot.tables(connection)
        }


def drop_everything(url):
    """The server of PostgreSQL is shared with other tests."""
    engine = create_engine(url)
    with engine.begin() as connection:
        everything = MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
    engine.dispose()


@pytest.fixture
def old(store_settings):
    """A database of the first schema with data in it: its settings and engine."""
    url = database_url(store_settings.database_url, store_settings.data_dir)
    drop_everything(url)
    (store_settings.data_dir / "pepper").write_bytes(PEPPER)
    engine = make_engine(url)
    fill(engine)
    yield SimpleNamespace(settings=store_settings, engine=engine)
    engine.dispose()
    drop_everything(url)


@pytest.fixture
def old_sqlite(tmp_path):
    """The engine of such a database where only SQLite is in question."""
    engine = make_engine(database_url("", tmp_path))
    fill(engine)
    yield engine
    engine.dispose()


def test_no_revision_loses_a_row(old):
    before = counts(old.engine)
    assert before == {name: len(rows) for name, rows in frozen_rows().items()}
    assert revisions()[0] == "0001"
    for step in revisions()[1:]:
        migrate(old.engine, step)
        assert revision(old.engine) == step
        after = counts(old.engine)
        assert {name: after[name] for name in before} == before, f"{step} lost rows"
    assert revision(old.engine) == head()
    assert set(after) == set(Base.metadata.tables)


def test_what_was_stored_is_read_by_the_code_of_today(old):
    store = open_store(old.settings)
    with store.session() as tx:
        found = {job.encoder: job for job in reversed(jobs.list_(tx, limit=50).items)}
        states = {job.encoder: job.state for job in found.values()}
        assert states == {
            "faces": "succeeded",
            "failing": "queued",
            "stopped": "cancelled",
            "running": "running",
            "waiting": "queued",
        }
        assert found["faces"].spec["text"] == "σ = ½ \U0001f600"
        assert found["waiting"].warnings == [{"code": "certificate_out_of_reach", "detail": "σ"}]
        failed = jobs.get(tx, found["failing"].retry_of)
        assert (failed.state, failed.failure["code"]) == ("failed", "out_of_memory")
        assert failed.checkpoint_digest == found["failing"].checkpoint_digest
        log = events.list_after(tx, found["faces"].id)
        assert [event.id for event in log] == list(range(1, len(log) + 1))
        assert {event.type for event in log} == {"state", "progress", "metric", "log", "checkpoint"}
        encoder = encoders.get_by_ref(tx, "faces:prod")
        assert (encoder.version, encoder.aliases, len(encoder.files)) == (2, ("prod",), 2)
        assert encoder.summary == encoders.summary(encoder.report) != {}
        assert [move.version for move in aliases.history(tx, "faces", "gone")] == [None, 1]
        assert datasets.get(tx, "cats").facts.n_train == 18
        assert datasets.get(tx, "birds").progress == {"done": 3, "total": 9}
        assert keys.verify(tx, SECRET, pepper=store.pepper).name == "ops"
    store.close()


def test_what_was_stored_goes_on_after_the_migration(old, finish):
    store = open_store(old.settings)
    with store.session() as tx:
        found = {job.encoder: job for job in reversed(jobs.list_(tx, limit=50).items)}
    with store.begin() as tx:
        reaped = jobs.reap(tx, max_attempts_without_checkpoint=3, republish_after_s=30)
        assert found["running"].id in reaped.requeued
        lease = jobs.take_lease(tx, found["running"].id, owner="new", lease_s=60)
        assert lease.job.attempt == 2
        jobs.add_checkpoint(tx, lease, "sha256:" + "7" * 64, 3)
    assert finish(store, lease).version == 1
    with store.begin() as tx:
        assert aliases.put(tx, "faces", "prod", 1, if_match='"2"').etag == '"3"'
        again = jobs.create(
            tx,
            kind="train",
            spec={"dataset": "cats"},
            resolved={},
            warnings=[],
            encoder="faces",
            priority="low",
        )
        lease = jobs.take_lease(tx, again.id, owner="new", lease_s=60)
        replay = idempotency.begin(tx, key="k1", scope="open POST /v1/jobs", fingerprint="f")
        assert replay is None or replay.body == b'{"a":1}\xff'
    assert finish(store, lease).version == 4, "the number of a deleted version is not used again"
    with pytest.raises(StateConflict), store.begin() as tx:
        datasets.delete(tx, "cats")
    store.close()


@pytest.mark.slow
def test_two_processes_migrate_at_once(old):
    before = counts(old.engine)
    arguments = [sys.executable, "-c", OPEN, str(old.settings.data_dir), old.settings.database_url]
    openers = [subprocess.Popen(arguments, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        opener.stdin.write("go\n")
        opener.stdin.flush()
    said = [opener.communicate(timeout=120)[1] for opener in openers]
    assert [opener.returncode for opener in openers] == [0, 0], said
    assert revision(old.engine) == head()
    after = counts(old.engine)
    assert {name: after[name] for name in before} == before


def test_a_migration_that_breaks_a_reference_is_undone(old_sqlite, monkeypatch):
    """Foreign keys are off while SQLite migrates; what a migration leaves behind is checked all the same."""
    from service.store import migrate as module

    def careless(connection, to):
        connection.execute(text("DELETE FROM encoder_names"))

    monkeypatch.setattr(module, "_upgrade", careless)
    before = counts(old_sqlite)
    with pytest.raises(RuntimeError, match="undone"):
        migrate(old_sqlite)
    assert counts(old_sqlite) == before
    with old_sqlite.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_table_built_anew_keeps_the_rows_that_refer_to_it(old_sqlite, monkeypatch):
    """Batch mode of Alembic on SQLite drops the old table; with foreign keys on, that would delete its events."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from service.store import migrate as module

    def rebuild(connection, to):
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("jobs", recreate="always"):
            pass

    monkeypatch.setattr(module, "_upgrade", rebuild)
    before = counts(old_sqlite)
    migrate(old_sqlite)
    assert counts(old_sqlite) == before


def test_a_newer_schema_is_left_alone(old):
    with old.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = counts(old.engine)
    with pytest.raises(SchemaTooNew, match="newer version of nidim"):
        open_store(old.settings)
    assert counts(old.engine) == before
    assert revision(old.engine) == "9999"


@pytest.mark.slow
def test_a_server_refuses_a_newer_schema_and_says_so(tmp_path):
    engine = make_engine(database_url("", tmp_path))
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "service.serve"],
        env={"PATH": "/usr/bin:/bin", "NIDIM_DATA_DIR": str(tmp_path), "NIDIM_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "made by a newer version of nidim" in done.stderr
