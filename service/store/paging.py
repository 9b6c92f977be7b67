"""Keyset paging, newest first: a page starts where the one before ended, whatever was added meanwhile.

The order is (created_at, key), both falling; the key settles equal moments.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.errors import BadCursor
from service.store.clock import Moment, from_us, to_us
from service.store.tables import AnyRow, AnySelect

T = TypeVar("T")
MAX_LIMIT = 1000
MAX_CURSOR = 512


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items and the opaque cursor of the next page, None on the last one."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Keyset:
    """The two columns of the order."""

    created_at: InstrumentedAttribute[datetime]
    key: InstrumentedAttribute[str]

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
            query = query.where(self._after(*_decode(cursor)))
        query = query.order_by(self.created_at.desc(), self.key.desc()).limit(limit + 1)
        rows = tx.execute(query).all()
        items = tuple(read(row) for row in rows[:limit])
        return Page(items, self._cursor(rows[limit - 1]) if len(rows) > limit else None)

    def _after(self, moment: datetime, key: str) -> Any:
        return tuple_(self.created_at, self.key) < tuple_(literal(moment, Moment()), literal(key))

    def _cursor(self, row: AnyRow) -> str:
        values = [to_us(row._mapping[self.created_at.key]), row._mapping[self.key.key]]
        return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        if len(cursor) > MAX_CURSOR:
            raise BadCursor
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        us, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if type(us) is not int or not isinstance(key, str) or not key.isascii() or "\x00" in key:
            raise BadCursor
        return from_us(us), key
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadCursor from error
