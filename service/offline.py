"""For commands that work on the store itself, whether a server runs or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.entry import BadSettings
from service.launcher import FOLDER, settings_from
from service.settings import Settings

if TYPE_CHECKING:
    from service.store import Store

data_dir_option = click.option(
    "--data-dir", type=FOLDER, help="Directory of the server's data. [NIDIM_DATA_DIR, else ~/.nidim]"
)


@contextmanager
def opened(data_dir: Path | None, *, create: bool = False) -> Iterator[Store]:
    """The store of ``data_dir`` and the NIDIM_* settings; what goes wrong becomes advice.

    ``create``: where there is none yet, one is made.
    """
    from service.store import open_store

    settings = settings_of(data_dir)
    if not create:
        _require_store(settings)
    with advising():
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def attached(data_dir: Path | None) -> Iterator[tuple[Store, Settings]]:
    """Like ``opened``, with the settings, and the database as it is: not migrated, no pepper made."""
    from service.store.store import attach

    settings = settings_of(data_dir)
    _require_store(settings)
    with advising():
        store = attach(settings)
        try:
            yield store, settings
        finally:
            store.close()


@contextmanager
def advising() -> Iterator[None]:
    """Errors of the store as advice for the person at the terminal."""
    from sqlalchemy.exc import DBAPIError

    from service.errors import ServiceError

    try:
        yield
    except DBAPIError as error:
        if _is_full(error.orig):
            raise click.ClickException(
                "The database's disk is full; make room there and try again."
            ) from error
        reason = str(error.orig).strip().splitlines() or ["no reason given"]
        raise click.ClickException(
            f"The database does not answer ({reason[0]}); check NIDIM_DATABASE_URL and that it runs."
        ) from error
    except (ServiceError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error


def _is_full(error: object) -> bool:
    """What SQLite or PostgreSQL raises without room to write."""
    code = getattr(error, "sqlite_errorcode", None)
    return (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or getattr(
        error, "sqlstate", ""
    ) == "53100"


def settings_of(data_dir: Path | None) -> Settings:
    try:
        return settings_from({"data_dir": data_dir})
    except BadSettings as error:
        raise click.ClickException(str(error)) from error


def _require_store(settings: Settings) -> None:
    if not settings.database_url and not (settings.data_dir / "nidim.db").exists():
        raise click.ClickException(
            f"There is no nidim database in {settings.data_dir}; give the --data-dir of `nidim up`, "
            "or set NIDIM_DATA_DIR or NIDIM_DATABASE_URL as for the server."
        )
