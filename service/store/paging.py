"""Keyset paging, newest first: a page starts where the one before ended, whatever was added meanwhile.

The order is (created_at, key), both falling; the key settles equal moments. A whole number may stand in for the
moment where an index has it. Every order needs its index: a page costs the same however deep it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.errors import BadCursor
from service.store.clock import Moment, from_us, to_us
from service.store.tables import AnyRow, AnySelect

T = TypeVar("T")
MAX_LIMIT = 1000
MAX_CURSOR = 512
MOST_DIGITS = 17


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items and the opaque cursor of the next page, None on the last one."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Keyset:
    """The two columns of the order."""

    created_at: InstrumentedAttribute[datetime] | InstrumentedAttribute[int]
    key: InstrumentedAttribute[str]

    @property
    def _is_moment(self) -> bool:
        return isinstance(self.created_at.type, Moment)

    def page(
        self,
        tx: Session,
        query: AnySelect,
        read: Callable[[AnyRow], T],
        *,
        limit: int,
        cursor: str | None,
    ) -> Page[T]:
        """The page of ``query`` after ``cursor``; one row more is read to know whether there is another page."""
        limit = max(1, min(limit, MAX_LIMIT))
        if cursor is not None:
            query = query.where(self._after(cursor))
        query = query.order_by(self.created_at.desc(), self.key.desc()).limit(limit + 1)
        rows = tx.execute(query).all()
        items = tuple(read(row) for row in rows[:limit])
        return Page(items, self._cursor(rows[limit - 1]) if len(rows) > limit else None)

    def _after(self, cursor: str) -> Any:
        number, key = _decode(cursor)
        place = literal(from_us(number), Moment()) if self._is_moment else literal(number, BigInteger)
        return tuple_(self.created_at, self.key) < tuple_(place, literal(key))

    def _cursor(self, row: AnyRow) -> str:
        place = row._mapping[self.created_at.key]
        values = [to_us(place) if self._is_moment else place, row._mapping[self.key.key]]
        return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def number_of(cursor: str) -> int:
    """The place in a cursor that is only a number, as of lists that are counted through. Raises BadCursor."""
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < MOST_DIGITS):
        raise BadCursor
    return int(cursor)


def _decode(cursor: str) -> tuple[int, str]:
    """The number and the key in a cursor of ours; the number is one that both kinds of order take."""
    try:
        if len(cursor) > MAX_CURSOR:
            raise BadCursor
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        us, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if type(us) is not int or not isinstance(key, str) or not key.isascii() or "\x00" in key:
            raise BadCursor
        from_us(us)
        return us, key
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadCursor from error
