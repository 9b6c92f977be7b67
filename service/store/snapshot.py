"""All rows of a database as JSON lines, the same for SQLite and PostgreSQL, and back.

The tables are read as they are found, not as this program describes them, so rows of an older schema can be written
and read too. Bytes are written in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import JSON, Connection, LargeBinary, MetaData, Table, insert, select

from service.store.text import to_json

VERSION_TABLE = "alembic_version"
ROWS_AT_ONCE = 500
Json = dict[str, Any]


def tables(connection: Connection) -> list[Table]:
    """Every table but Alembic's, those that others refer to first."""
    found = MetaData()
    found.reflect(connection)
    kept = [table for table in found.sorted_tables if table.name != VERSION_TABLE]
    for table in kept:
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type.none_as_null = True
    return kept


def rows(connection: Connection, table: Table) -> Iterator[Json]:
    """Every row of ``table``, a few at a time in memory."""
    options = {"stream_results": True, "yield_per": ROWS_AT_ONCE}
    order = list(table.primary_key.columns)
    for row in connection.execute(select(table).order_by(*order), execution_options=options):
        yield dict(row._mapping)


def write_rows(connection: Connection, table: Table, values: Iterable[Mapping[str, Any]]) -> int:
    """Insert rows into ``table``; how many."""
    count, values = 0, iter(values)
    while batch := [dict(row) for row in islice(values, ROWS_AT_ONCE)]:
        connection.execute(insert(table), batch)
        count += len(batch)
    return count


def to_line(row: Mapping[str, Any]) -> bytes:
    """One row as a line of JSON."""
    return (to_json({name: _plain(value) for name, value in row.items()}) + "\n").encode()


def from_line(table: Table, line: bytes | str) -> Json:
    """The inverse of :func:`to_line`, for a row of ``table``."""
    row: Json = json.loads(line)
    for column in table.columns:
        if isinstance(column.type, LargeBinary) and row.get(column.name) is not None:
            row[column.name] = base64.b64decode(row[column.name], validate=True)
    return row


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
