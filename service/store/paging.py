"""Keyset paging, newest first: a page starts where the one before ended, whatever was added meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items and the opaque cursor of the next page, None on the last one."""

    items: tuple[T, ...]
    next_cursor: str | None
