"""Migrations at open: Alembic without a configuration file, one process at a time.

Both databases change their schema within a transaction, so a migration is whole or did not happen. Processes that
open the same database at once wait for each other: PostgreSQL by an advisory lock, SQLite by its write lock.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

SCRIPTS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x6E6964696D  # "nidim"


def migrate(engine: Engine) -> None:
    """Bring the database to the newest revision. Raises RuntimeError if it is newer than this program."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if _revision(connection) == head:
            return
    with engine.begin() as connection:
        _lock(connection)
        config.attributes["connection"] = connection
        _upgrade(config)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def _upgrade(config: Config) -> None:
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RuntimeError(
            "The database was made by a newer version of nidim; install that version or use another data_dir."
        ) from error
