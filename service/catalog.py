"""All datasets, built-in and uploaded, under one roof."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.orm import Session

from nidim.spec import DatasetFacts
from service import views
from service.errors import BadCursor, DatasetUnavailable, NotFound, StateConflict
from service.inference import builtins
from service.refusals import Blame, Forbidden, InvalidBody
from service.settings import Settings
from service.store import datasets

_BUILTIN_CURSOR = re.compile(r"builtin\.([0-9]{1,3})")
Json = dict[str, Any]


def facts(settings: Settings, tx: Session, name: str, *, hold: bool = True) -> DatasetFacts:
    """What a job needs to know; ``hold``: and nobody can delete it before this transaction ends.

    Raises InvalidBody for an unknown name, DatasetUnavailable.
    """
    if name in builtins.NAMES:
        if not builtins.available(name, settings.datasets_root, allow_downloads=settings.allow_downloads):
            raise DatasetUnavailable(
                f"The files of {name} are not here: put them below the datasets directory, or allow downloads."
            )
        return builtins.facts(name)
    row = datasets.hold(tx, name) if hold else datasets.get(tx, name)
    if row is None:
        raise InvalidBody(
            f"There is no dataset {name}.", errors=[Blame("/spec/dataset", f"there is no dataset {name}")]
        )
    return row.facts


def view(settings: Settings, tx: Session, name: str) -> Json:
    """One dataset. Raises NotFound."""
    if name in builtins.NAMES:
        return _builtin(settings, name)
    row = datasets.get(tx, name)
    if row is None:
        raise NotFound("There is no such dataset; look at the list for what exists.")
    return views.dataset(row)


def page(settings: Settings, tx: Session, *, limit: int, cursor: str | None) -> tuple[list[Json], str | None]:
    """Uploaded datasets, newest first, then the built-in ones; the next cursor, or None."""
    match = _BUILTIN_CURSOR.fullmatch(cursor or "")
    if match is not None:
        return _builtins(settings, int(match[1]), limit)
    found = datasets.list_(tx, limit=limit, cursor=cursor)
    items = [views.dataset(row) for row in found.items]
    if found.next_cursor is not None:
        return items, found.next_cursor
    more, next_cursor = _builtins(settings, 0, limit - len(items))
    return items + more, next_cursor


def require_uploaded(name: str) -> None:
    """Raises Forbidden for a built-in."""
    if name in builtins.NAMES:
        raise Forbidden(f"{name} is built in and stays.")


def require_settled(tx: Session, name: str) -> None:
    """Raises StateConflict while another process of this server reads the dataset."""
    row = datasets.get(tx, name)
    if row is not None and row.state == "ingesting":
        raise StateConflict(f"Another process is reading {name}; try again when it has finished.")


def _builtins(settings: Settings, start: int, limit: int) -> tuple[list[Json], str | None]:
    if start > len(builtins.NAMES):
        raise BadCursor
    stop = start + limit
    cursor = f"builtin.{stop}" if stop < len(builtins.NAMES) else None
    return [_builtin(settings, name) for name in builtins.NAMES[start:stop]], cursor


def _builtin(settings: Settings, name: str) -> Json:
    return builtins.view(name, settings.datasets_root, allow_downloads=settings.allow_downloads)
