"""A member: one file of an archive, folder or table, as bytes, with a name that is only ever text.

Names come from strangers. They are cleaned for display, split into folders to find classes, and never used as a
path. A source yields its members in order; ``ordinal`` is the place in that order and finds the member again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self

import numpy as np

MAX_DEPTH = 16
"""Folders deeper than this never make a class."""
JUNK = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
JUNK_FOLDER = "__macosx"

NOT_REGULAR = "not a regular file: links and devices are not followed"
OUTSIDE = "its name leads out of the archive"
REPEATED = "a second member of the same name"


class Member(NamedTuple):
    """``data`` is None where ``problem`` says why it was not read. Tables also know label and split."""

    ordinal: int
    name: str
    data: bytes | None
    problem: str | None = None
    label: int | str | None = None
    split: str | None = None


Wanted = np.ndarray | None
"""bool, by ordinal: the members to read; None for all."""


class Source(Protocol):
    """Members in their order. ``total`` is None where it is not known before the end."""

    total: int | None

    def read(self, wanted: Wanted = None) -> Iterator[Member]:
        """The wanted members with their bytes, junk left out."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def is_wanted(wanted: Wanted, ordinal: int) -> bool:
    return wanted is None or (ordinal < len(wanted) and bool(wanted[ordinal]))


def clean(name: str) -> str:
    """Printable text with forward slashes; what is not printable becomes a question mark."""
    text = name.replace("\\", "/").encode("utf-8", "replace").decode("utf-8")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def folders(name: str) -> tuple[str, ...]:
    """The outermost folders above a cleaned name, at most MAX_DEPTH."""
    return tuple(p for p in name.split("/", MAX_DEPTH)[:-1] if p not in ("", "."))


def is_junk(name: str) -> bool:
    """What desktops leave behind: __MACOSX, dotfiles, Thumbs.db. Not counted, not mentioned."""
    parts = [p for p in name.split("/") if p not in ("", ".", "..")]
    if not parts or parts[-1].lower() in JUNK or JUNK_FOLDER in (p.lower() for p in parts):
        return True
    return any(p.startswith(".") for p in parts)


def leads_outside(name: str) -> bool:
    """Whether a cleaned name is absolute, names a drive, or climbs with ``..``."""
    return name.startswith("/") or ".." in name.split("/") or (name[:1].isalpha() and name[1:2] == ":")


class Names:
    """The names met so far; what is wrong with the next one."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def problem(self, name: str) -> str | None:
        if leads_outside(name):
            return OUTSIDE
        if name in self._seen:
            return REPEATED
        self._seen.add(name)
        return None
