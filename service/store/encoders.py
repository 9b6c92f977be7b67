"""Registered encoders and generators: immutable, numbered per name, found by id, name, version or alias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Text, bindparam, cast, func, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from service.errors import EncoderAliased, NotFound, StateConflict, VersionRequired
from service.store import aliases, damage
from service.store.damage import Damage
from service.store.names import ByAlias, ById, ByVersion, Kind, Newest, Ref, is_name, parse_ref, shown, stored
from service.store.paging import Keyset, Page
from service.store.tables import AliasRow, AnyRow, AnySelect, EncoderFileRow, EncoderRow, JobRow

__all__ = [
    "Encoder",
    "EncoderFile",
    "Listed",
    "aliases",
    "bytes_of",
    "delete",
    "get_by_ref",
    "list_",
    "summary",
]

COLUMNS = tuple(EncoderRow.__table__.columns)
PLAIN = ("id", "kind", "name", "version", "dim", "summary", "digest", "size_bytes", "job_id", "created_at")
NAME = PLAIN.index("name")
AS_STORED = ("prior", "spec", "resolved")
LISTED = (
    *(EncoderRow.__table__.c[name] for name in PLAIN),
    *(cast(EncoderRow.__table__.c[name], Text).label(name) for name in AS_STORED),
)
SECTIONS = ("certificate", "clean", "noisy", "probes", "clustering")
"""The long parts of a report."""
NEWEST_FIRST = Keyset(EncoderRow.created_at, EncoderRow.id)
LAST_VERSION_FIRST = Keyset(EncoderRow.version, EncoderRow.id)
"""The same order within a name, where (name, version) is the index."""


@dataclass(frozen=True, kw_only=True)
class EncoderFile:
    """One file of a bundle: the digest of its blob and its length in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One version of an encoder or a generator; ``digest`` is that of its whole bundle."""

    id: str
    kind: Kind
    name: str
    version: int
    aliases: tuple[str, ...]
    dim: int
    prior: dict[str, Any]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    summary: dict[str, Any]
    report: dict[str, Any]
    digest: str
    size_bytes: int
    job_id: str
    created_at: datetime
    files: dict[str, EncoderFile]
    damage: Damage | None = None


class Listed(NamedTuple):
    """What a list shows of it: no files, no report, and JSON as it is stored, which nobody needs to parse.

    A tuple in the order of ``LISTED``, because a list makes fifty of them: a frozen dataclass takes several times as
    long.
    """

    id: str
    kind: Kind
    name: str
    version: int
    dim: int
    summary: dict[str, Any]
    digest: str
    size_bytes: int
    job_id: str
    created_at: datetime
    prior: orjson.Fragment
    spec: orjson.Fragment
    resolved: orjson.Fragment
    aliases: tuple[str, ...]
    damage: Damage | None


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a report without its long parts."""
    return {
        name: value
        for name, value in report.items()
        if name not in SECTIONS and not isinstance(value, list | dict)
    }


def get_by_ref(tx: Session, ref: str, kind: Kind = "encoder") -> Encoder | None:
    """``enc_…``, ``name`` (its newest version), ``name@3`` or ``name:alias``; None if there is no such thing."""
    parsed = parse_ref(ref, kind)
    if parsed is None:
        return None
    rows = tx.execute(_find(parsed)).all()
    return next(iter(_read(tx, rows)), None)


def hold(tx: Session, ref: str) -> Encoder | None:
    """The encoder that a reference names now; nobody can delete it before this transaction ends."""
    found = get_by_ref(tx, ref)
    if found is None:
        return None
    query = select(EncoderRow.id).where(EncoderRow.id == found.id).with_for_update(read=True)
    return None if tx.execute(query).first() is None else found


def list_(
    tx: Session,
    *,
    kind: Kind = "encoder",
    name: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Listed]:
    """Encoders or generators, newest first, of one name or all. Raises BadCursor."""
    if name is not None and not is_name(name):
        return Page((), None)
    wanted = EncoderRow.kind == kind if name is None else EncoderRow.name == stored(kind, name)
    query = select(*LISTED).where(wanted)
    order = NEWEST_FIRST if name is None else LAST_VERSION_FIRST
    page = order.page(tx, query, lambda row: row, limit=limit, cursor=cursor)
    return Page(tuple(_listed(tx, page.items)), page.next_cursor)


def bytes_of(tx: Session, created_by: str) -> int:
    """The bytes of all encoders and generators whose jobs one creator has submitted, as long as those jobs are kept."""
    query = (
        select(func.coalesce(func.sum(EncoderRow.size_bytes), 0))
        .join(JobRow, JobRow.id == EncoderRow.job_id)
        .where(JobRow.created_by == created_by)
    )
    return int(tx.execute(query).scalar_one())


def delete(tx: Session, ref: str, kind: Kind = "encoder") -> Encoder:
    """Delete one version, named by its id or ``name@3``, and return it; its number is never used again.

    Raises VersionRequired (a bare name or alias), NotFound, EncoderAliased, StateConflict while a job needs it. Its
    blobs may be shared: ask ``references.unused`` which of them may go, after the commit.
    """
    if isinstance(parse_ref(ref, kind), Newest | ByAlias):
        raise VersionRequired
    encoder = get_by_ref(tx, ref, kind)
    if encoder is not None:
        aliases.lock(tx, stored(kind, encoder.name))
        encoder = get_by_ref(tx, ref, kind)
    if encoder is None:
        raise NotFound(f"There is no such {kind}; look at the list of {kind}s.")
    names = _aliases(tx, [encoder.id]).get(encoder.id)
    if names:
        raise EncoderAliased(
            f"Aliases point to this version ({', '.join(names)}); move or delete them first."
        )
    tx.execute(select(EncoderRow.id).where(EncoderRow.id == encoder.id).with_for_update())
    waiting = tx.scalars(
        select(JobRow.id).where(JobRow.source == encoder.id, JobRow.state.in_(("queued", "running"))).limit(1)
    ).first()
    if waiting is not None:
        raise StateConflict(
            f"The job {waiting} trains with this encoder; cancel it, or wait until it has ended."
        )
    tx.execute(sql_delete(EncoderRow).where(EncoderRow.id == encoder.id))
    return encoder


def _find(ref: Ref) -> AnySelect:
    query = select(*COLUMNS)
    match ref:
        case ById(id=id_):
            return query.where(EncoderRow.id == id_)
        case ByVersion(name=name, version=version):
            return query.where(EncoderRow.name == name, EncoderRow.version == version)
        case ByAlias(name=name, alias=alias):
            target = (AliasRow.name == EncoderRow.name) & (AliasRow.version == EncoderRow.version)
            return query.join(AliasRow, target).where(AliasRow.name == name, AliasRow.alias == alias)
        case Newest(name=name):
            return query.where(EncoderRow.name == name).order_by(EncoderRow.version.desc()).limit(1)


def _read(tx: Session, rows: Sequence[AnyRow]) -> list[Encoder]:
    """The encoders of these rows, with their files, aliases and damage in three further queries."""
    if not rows:
        return []
    files = _files(tx, [row.id for row in rows])
    names = _aliases(tx, [row.id for row in rows])
    damages = damage.of(tx, [row.id for row in rows])
    return [
        Encoder(
            **{**row._mapping, "name": shown(row.name)},
            aliases=tuple(names.get(row.id, ())),
            files=files.get(row.id, {}),
            damage=damages.get(row.id),
        )
        for row in rows
    ]


def _listed(tx: Session, rows: Sequence[AnyRow]) -> list[Listed]:
    """The same for a list, in two further queries."""
    if not rows:
        return []
    names = _aliases(tx, [row.id for row in rows])
    damages = damage.of(tx, [row.id for row in rows])
    plain = len(PLAIN)
    return [
        Listed._make(
            (
                *row[:NAME],
                shown(row[NAME]),
                *row[NAME + 1 : plain],
                *map(orjson.Fragment, row[plain:]),
                tuple(names.get(row[0], ())),
                damages.get(row[0]),
            )
        )
        for row in rows
    ]


def _files(tx: Session, encoder_ids: Sequence[str]) -> dict[str, dict[str, EncoderFile]]:
    columns = (EncoderFileRow.encoder_id, EncoderFileRow.name, EncoderFileRow.digest, EncoderFileRow.size)
    query = select(*columns).where(EncoderFileRow.encoder_id.in_(encoder_ids)).order_by(EncoderFileRow.name)
    files: dict[str, dict[str, EncoderFile]] = {}
    for encoder_id, name, digest, size in tx.execute(query):
        files.setdefault(encoder_id, {})[name] = EncoderFile(digest=digest, size=size)
    return files


_ALIASES = (
    select(EncoderRow.id, AliasRow.alias)
    .join(AliasRow, (AliasRow.name == EncoderRow.name) & (AliasRow.version == EncoderRow.version))
    .where(EncoderRow.id.in_(bindparam("ids", expanding=True)))
    .order_by(AliasRow.alias)
)


def _aliases(tx: Session, encoder_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for encoder_id, alias in tx.execute(_ALIASES, {"ids": encoder_ids}):
        found.setdefault(encoder_id, []).append(alias)
    return found
