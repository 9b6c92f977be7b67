"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with how many members are done, and of how many where that is known. What it raises ends the work."""


def quiet(_done: int, _total: int | None) -> None:
    """Progress that nobody asked for."""
