"""Aliases: names that move from version to version by compare-and-swap, with their history.

Every move has a revision that rises per alias and is never used again, deletion or not; the ETag is that revision, so
``If-Match`` with an old one always fails. Moves of one encoder's aliases wait for each other on the row of its name.

A rollback is one more move: to the version before the last move. So a second one goes back to where it was, and the
history tells all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy import insert as sql_insert
from sqlalchemy.orm import Session

from service.errors import NotFound, NothingBefore, PreconditionFailed
from service.store.clock import now
from service.store.names import is_name
from service.store.tables import AliasMoveRow, AliasRow, AnyRow, EncoderNameRow, EncoderRow
from service.store.upsert import insert

COLUMNS = (AliasRow.name, AliasRow.alias, AliasRow.version, AliasRow.revision, AliasRow.updated_at)


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Where an alias points; ``etag`` (quoted, as in the header) changes with every move and never comes back."""

    name: str
    alias: str
    version: int
    etag: str
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    """One entry of the history; ``version`` is None where the alias was deleted."""

    version: int | None
    revision: int
    etag: str
    at: datetime


def put(
    tx: Session,
    name: str,
    alias: str,
    version: int,
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
) -> Alias:
    """Point the alias to a version; nothing changes if it does already.

    ``if_match`` and ``if_none_match`` are the headers as they came; ``*`` in the latter: only if there is no such
    alias yet. Raises NotFound (no such version), PreconditionFailed.
    """
    lock(tx, name)
    found = get(tx, name, alias)
    _require_match(found, if_match)
    _require_no_match(found, if_none_match)
    _require_version(tx, name, version)
    if found is not None and found.version == version:
        return found
    return _point(tx, name, alias, version)


def rollback(tx: Session, name: str, alias: str, *, if_match: str | None = None) -> Alias:
    """Undo the last move: point the alias to the version before, also after it was deleted.

    Raises NotFound (there never was such an alias), NothingBefore, PreconditionFailed.
    """
    lock(tx, name)
    moves = history(tx, name, alias, limit=2)
    if not moves:
        raise NotFound("There is no such alias; look at the encoder's aliases.")
    _require_match(get(tx, name, alias), if_match)
    before = moves[1].version if len(moves) > 1 else None
    if before is None:
        raise NothingBefore
    try:
        _require_version(tx, name, before)
    except NotFound:
        raise NothingBefore(
            f"Version {before}, to which the alias pointed before, was deleted; put it to a version that is there."
        ) from None
    return _point(tx, name, alias, before)


def _point(tx: Session, name: str, alias: str, version: int) -> Alias:
    """Move the alias, whatever it was, and write the history."""
    revision = _move(tx, name, alias, version)
    moved = {"version": version, "revision": revision, "updated_at": now()}
    statement = (
        insert(tx, AliasRow)
        .values(name=name, alias=alias, **moved)
        .on_conflict_do_update(index_elements=[AliasRow.name, AliasRow.alias], set_=moved)
        .returning(*COLUMNS)
    )
    return _read(tx.execute(statement).one())


def get(tx: Session, name: str, alias: str) -> Alias | None:
    """Where the alias points."""
    if not (is_name(name) and is_name(alias)):
        return None
    query = select(*COLUMNS).where(AliasRow.name == name, AliasRow.alias == alias)
    row = tx.execute(query).one_or_none()
    return None if row is None else _read(row)


def delete(tx: Session, name: str, alias: str, *, if_match: str | None = None) -> None:
    """Delete the alias. Raises NotFound, PreconditionFailed."""
    lock(tx, name)
    found = get(tx, name, alias)
    if found is None:
        raise NotFound("There is no such alias; look at the encoder's aliases.")
    _require_match(found, if_match)
    tx.execute(sql_delete(AliasRow).where(AliasRow.name == name, AliasRow.alias == alias))
    _move(tx, name, alias, None)


def history(
    tx: Session, name: str, alias: str, *, limit: int | None = None, before: int | None = None
) -> list[AliasMove]:
    """Every move, or the last few, newest first, those of a revision below ``before``; also of an alias that was
    deleted, empty if there never was one."""
    if not (is_name(name) and is_name(alias)):
        return []
    query = (
        select(AliasMoveRow.version, AliasMoveRow.revision, AliasMoveRow.at)
        .where(AliasMoveRow.name == name, AliasMoveRow.alias == alias)
        .order_by(AliasMoveRow.revision.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(AliasMoveRow.revision < before)
    return [
        AliasMove(version=row.version, revision=row.revision, etag=_etag(row.revision), at=row.at)
        for row in tx.execute(query)
    ]


def lock(tx: Session, name: str) -> None:
    """Let nobody else move the aliases or delete versions of this name before the transaction ends."""
    if is_name(name):
        tx.execute(select(EncoderNameRow.name).where(EncoderNameRow.name == name).with_for_update())


def _etag(revision: int) -> str:
    return f'"{revision}"'


def _read(row: AnyRow) -> Alias:
    return Alias(
        name=row.name,
        alias=row.alias,
        version=row.version,
        etag=_etag(row.revision),
        updated_at=row.updated_at,
    )


def _require_match(found: Alias | None, if_match: str | None) -> None:
    """Strong comparison, as If-Match asks for: a weak tag matches nothing."""
    if if_match is None:
        return
    if found is None:
        raise PreconditionFailed("There is no such alias now, and so no ETag of it; send no If-Match.")
    if not {tag.strip() for tag in if_match.split(",")} & {"*", found.etag}:
        raise PreconditionFailed


def _require_no_match(found: Alias | None, if_none_match: str | None) -> None:
    """Weak comparison, as If-None-Match asks for."""
    if if_none_match is None or found is None:
        return
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if tags & {"*", found.etag}:
        raise PreconditionFailed(
            f"The alias points to version {found.version} already; to move it, send its ETag in If-Match."
        )


def _require_version(tx: Session, name: str, version: int) -> None:
    known = is_name(name) and 0 < version < 2**31
    query = select(EncoderRow.id).where(EncoderRow.name == name, EncoderRow.version == version)
    if not known or tx.execute(query).first() is None:
        raise NotFound(f"The encoder has no version {version}; look at the list of encoders.")


def _move(tx: Session, name: str, alias: str, version: int | None) -> int:
    """Write the history and return the new revision."""
    of_alias = (AliasMoveRow.name == name) & (AliasMoveRow.alias == alias)
    last = tx.execute(select(func.max(AliasMoveRow.revision)).where(of_alias)).scalar_one()
    revision = (last or 0) + 1
    values = {"name": name, "alias": alias, "revision": revision, "version": version, "at": now()}
    tx.execute(sql_insert(AliasMoveRow).values(values))
    return revision
