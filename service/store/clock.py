"""Time: the database's clock, how moments are stored, how they are written.

A moment is stored as a whole number of microseconds since 1970 UTC, so that both databases compare, add and index it
in the same way; in Python it is an aware ``datetime`` in UTC. ``now()`` is evaluated by the database when the
statement runs (SQLite has milliseconds, PostgreSQL microseconds), never by this process: workers and servers may
disagree about the time, and leases must not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Dialect, SQLColumnExpression, literal, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """The inverse of :func:`to_us`."""
    return EPOCH + us * MICROSECOND


def rfc3339(moment: datetime | None) -> str | None:
    """``2025-01-31T12:00:00.123456Z``; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Moment(TypeDecorator[datetime]):
    """A column of moments: BIGINT in the database, aware ``datetime`` in Python."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else to_us(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else from_us(int(value))


_US, _MOMENT = BigInteger(), Moment()
"""SQLAlchemy adapts every object that is a type anew, so there is one of each."""


class _Clock(FunctionElement[int]):
    type = _US
    inherit_cache = True


@compiles(_Clock, "sqlite")
def _sqlite_clock(element: _Clock, compiler: Any, **_: Any) -> str:  # noqa: ARG001
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(_Clock, "postgresql")
def _postgresql_clock(element: _Clock, compiler: Any, **_: Any) -> str:  # noqa: ARG001
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


@lru_cache(maxsize=64)  # an expression never changes
def now(plus_s: float = 0.0) -> ColumnElement[datetime]:
    """The database's clock, plus some seconds; it moves within a transaction."""
    return type_coerce(_Clock() + literal(round(plus_s * 1e6), _US), _MOMENT)


def is_past(
    moment: SQLColumnExpression[datetime] | SQLColumnExpression[datetime | None],
) -> ColumnElement[bool]:
    """Whether the moment has passed; not so where there is none."""
    return moment < now()
