"""Migrations at open: Alembic without a configuration file, one process at a time.

Both databases change their schema within a transaction, so a migration is whole or did not happen. Processes that
open the same database at once wait for each other: PostgreSQL by an advisory lock, SQLite by its write lock.

SQLite changes some tables only by building them anew, and dropping the old one would delete whatever refers to its
rows. So foreign keys are not enforced during a migration there; they are checked, all of them, before it is committed.

Alembic takes as long to import as SQLAlchemy, and hardly any start has something to migrate: it is imported when there
is. Revisions are in order, and a script's file has the name of its revision in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from service.store.snapshot import VERSION_TABLE

SCRIPTS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x6E6964696D  # "nidim"


class SchemaTooNew(RuntimeError):
    """The database was made by a newer version of nidim; install that version or use another data_dir."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def migrate(engine: Engine, to: str | None = None) -> None:
    """Bring the database to revision ``to`` (default: the newest). Raises SchemaTooNew."""
    with engine.connect() as connection:
        if _revision(connection) == (to or head()):
            return
    with engine.connect() as connection, _unenforced(connection), connection.begin():
        _lock(connection)
        _upgrade(connection, to or "head")
        _require_references(connection)


def head() -> str:
    """The revision that this program works with."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Every revision, the first one first."""
    return sorted(script.name.partition("_")[0] for script in (SCRIPTS / "versions").glob("[0-9]*_*.py"))


def revision(engine: Engine) -> str | None:
    """The revision of the database; None: it has no schema."""
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def _upgrade(connection: Connection, to: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise SchemaTooNew from error


@contextmanager
def _unenforced(connection: Connection) -> Iterator[None]:
    """SQLite takes this switch outside a transaction only, so it is given to the driver before one begins."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = connection.connection.dbapi_connection
    assert driver is not None
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _require_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise RuntimeError(
            "The migration would leave rows that refer to nothing; it was undone. Restore a backup."
        )
