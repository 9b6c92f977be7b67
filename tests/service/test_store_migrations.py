"""Migrations: from nothing to the tables of the code, on both databases, also by many at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, text

from service.store import Store, open_store
from service.store.engine import database_url, make_engine
from service.store.migrate import SCRIPTS, head, migrate, revisions
from service.store.tables import Base

OPEN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from service.store import open_store

print("ready", flush=True)
sys.stdin.readline()
store = open_store(SimpleNamespace(data_dir=Path(sys.argv[1]), database_url=sys.argv[2], blob_url=""))
store.ping()
store.close()
"""


@pytest.fixture
def empty_settings(store_settings):
    """Settings of a database without any table."""
    if store_settings.database_url:
        engine = create_engine(database_url(store_settings.database_url, Path()))
        with engine.begin() as connection:
            everything = MetaData()
            everything.reflect(connection)
            everything.drop_all(connection)
        engine.dispose()
    return store_settings


def differences(store: Store) -> list:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, Base.metadata)


def test_migrations_make_the_tables_of_the_code(empty_settings):
    store = open_store(empty_settings)
    assert differences(store) == []
    migrate(store.engine)
    store.close()


def test_the_names_of_the_scripts_are_their_revisions_in_order():
    scripts = ScriptDirectory(SCRIPTS)
    assert revisions() == [script.revision for script in scripts.walk_revisions()][::-1]
    assert head() == scripts.get_current_head()


@pytest.mark.slow
def test_processes_that_open_an_empty_database_at_once(empty_settings):
    arguments = [sys.executable, "-c", OPEN, str(empty_settings.data_dir), empty_settings.database_url]
    openers = [subprocess.Popen(arguments, stdin=-1, stdout=-1, text=True) for _ in range(4)]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate(timeout=120)
    assert [opener.returncode for opener in openers] == [0] * 4
    store = open_store(empty_settings)
    assert differences(store) == []
    store.close()


def test_a_database_of_a_newer_version_is_left_alone(empty_settings):
    store = open_store(empty_settings)
    with store.begin() as tx:
        head = tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RuntimeError, match="newer version"):
        open_store(empty_settings)
    with store.begin() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": head})
    store.close()


def test_sqlite_keeps_its_promises(sqlite_store, tmp_path):
    with sqlite_store.engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        values = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
    assert values == ["wal", 2, 1, 0]
    assert sqlite3.connect(tmp_path / "nidim.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("", "sqlite:////data/nidim.db"),
        ("sqlite:////elsewhere/x.db", "sqlite:////elsewhere/x.db"),
        ("postgres://u:p@h/db", "postgresql+psycopg://u:***@h/db"),
        ("postgresql://u@h/db?sslmode=require", "postgresql+psycopg://u@h/db?sslmode=require"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
    ],
)
def test_urls(configured, expected):
    assert str(database_url(configured, Path("/data"))) == expected


def test_other_databases_are_refused():
    with pytest.raises(ValueError, match="sqlite or postgresql"):
        make_engine(database_url("mysql+pymysql://h/db", Path()))


def test_the_data_directory_is_private_and_made_at_need(tmp_path):
    place = tmp_path / "a" / "b"
    store = open_store(SimpleNamespace(data_dir=place, database_url="", blob_url=""))
    assert place.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in place.iterdir() if path.suffix == "") == ["blobs", "pepper"]
    store.close()
