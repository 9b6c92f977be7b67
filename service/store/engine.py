"""Engines: how each database is connected so that the promises hold.

SQLite: WAL (readers do not wait), synchronous=FULL (a commit survives a power cut), a busy timeout, foreign keys, and
BEGIN IMMEDIATE for every transaction that may write: one that read first and writes later could otherwise fail at
once instead of waiting. Python's sqlite3 would begin transactions by itself, at the wrong moment; it is told not to.
SQLite's own wait grows to a tenth of a second between looks: beside a process that writes all the time it could look
for half a minute and never meet the gap. So the wait for BEGIN looks every few milliseconds.

Errors of either carry the statement and never its values: digests of keys and specs of clients do not belong in logs.

PostgreSQL (psycopg 3): connections are tried before use, so a restarted server costs nothing. A process keeps as many
as it ever uses at a time, since to connect costs more than most transactions.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError

from service.errors import StoreBusy
from service.store.text import from_json, to_json

BUSY_TIMEOUT_S = 30.0
LOOK_EVERY_MS = 5
"""SQLite looks after 1, 2 and 5 ms, then :func:`_begin_immediate` lets it start again."""
SQLITE_POOL = {"pool_size": 20, "max_overflow": 60}
"""As many as there are threads that could ask."""
POSTGRESQL_POOL = {"pool_size": 15, "max_overflow": 0}
CONNECT_TIMEOUT_S = 5
NOTICE_A_DEAD_PEER = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Of libpq: a machine that vanished without a word is noticed within half a minute, not after hours."""
READ_ONLY = "nidim_read_only"


def database_url(configured: str, data_dir: Path) -> URL:
    """The URL with the driver that we use; empty: SQLite in the data directory."""
    if not configured:
        return URL.create("sqlite", database=str(data_dir / "nidim.db"))
    url = make_url(configured)
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url


def make_engine(url: URL) -> Engine:
    """An engine with every rule of this module applied."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(url)
    if backend == "postgresql":
        return create_engine(
            url,
            json_serializer=to_json,
            json_deserializer=from_json,
            pool_pre_ping=True,
            hide_parameters=True,
            **POSTGRESQL_POOL,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, **NOTICE_A_DEAD_PEER},
        )
    raise ValueError(f"database_url must be sqlite or postgresql, not {backend}")


def reader(engine: Engine) -> Engine:
    """The same engine and pool, for transactions that read one state and may not write."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.execution_options(**{READ_ONLY: True})


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        json_serializer=to_json,
        json_deserializer=from_json,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        **SQLITE_POOL,
    )
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    _enable_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """The first connection to a new file switches it; the busy timeout does not cover that, so try again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _sqlite_begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    _pragma(connection, "query_only", int(read_only))
    if read_only:
        connection.exec_driver_sql("BEGIN")
    else:
        _begin_immediate(connection)


def _begin_immediate(connection: Connection) -> None:
    """Wait for the right to write, looking often. Raises StoreBusy."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    _pragma(connection, "busy_timeout", LOOK_EVERY_MS)
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                if not _is_busy(error.orig):
                    raise
                if time.monotonic() > deadline:
                    raise StoreBusy(retry_after_s=1) from error
    finally:
        _pragma(connection, "busy_timeout", round(1000 * BUSY_TIMEOUT_S))


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_BUSY


def _pragma(connection: Connection, name: str, value: int) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA {name}={value}").close()
