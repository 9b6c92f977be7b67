"""Commands that work on the store itself say what is the matter with it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from sqlalchemy import create_engine

from service.offline import advising


def test_a_full_disk_is_no_database_that_does_not_answer(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'small.db'}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        connection.exec_driver_sql("CREATE TABLE pages (page BLOB)")
        with pytest.raises(click.ClickException, match="disk is full; make room"), advising():
            connection.exec_driver_sql("INSERT INTO pages VALUES (zeroblob(100000))")
        with (
            pytest.raises(click.ClickException, match=r"does not answer \(no such table: none\)"),
            advising(),
        ):
            connection.exec_driver_sql("INSERT INTO none VALUES (1)")
    engine.dispose()
