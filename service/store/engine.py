"""Engines: how each database is connected so that the promises hold.

SQLite: WAL (readers do not wait), synchronous=FULL (a commit survives a power cut), a busy timeout, foreign keys, and
BEGIN IMMEDIATE for every transaction that may write: one that read first and writes later could otherwise fail at
once instead of waiting. Python's sqlite3 would begin transactions by itself, at the wrong moment; it is told not to.

PostgreSQL (psycopg 3): connections are tried before use, so a restarted server costs nothing.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url

from service.store.text import to_json

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5
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
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    raise ValueError(f"database_url must be sqlite or postgresql, not {backend}")


def reader(engine: Engine) -> Engine:
    """The same engine and pool, for transactions that read one state and may not write."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.execution_options(**{READ_ONLY: True})


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, json_serializer=to_json, connect_args={"timeout": BUSY_TIMEOUT_S})
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
    connection.exec_driver_sql(f"PRAGMA query_only={int(read_only)}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
