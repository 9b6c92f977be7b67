"""Aliases: names that move from version to version, compare-and-swap by ETag."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from nidim.spec import NAME_PATTERN
from nidim.spec.problems import words
from service import files, views
from service.answers import AliasMoveOut, AliasOut, ListOut
from service.auth import needs
from service.bodies import json_body
from service.errors import NotFound
from service.refusals import Blame, InvalidBody
from service.routes.common import App, Author, Cursor, Limit, NamePath, found, guarded
from service.schemas import Alias, AliasIn
from service.store import audit, encoders, rfc3339
from service.store.encoders import aliases
from service.store.names import is_name
from service.store.paging import number_of

ALIAS_PATTERN = NAME_PATTERN.replace("^", "^(?![0-9]+$)(?!enc_|gen_|job_)", 1)
IfMatch = Annotated[str | None, Header(max_length=1024, description="the ETag that must still hold")]
IfNoneMatch = Annotated[
    str | None, Header(max_length=1024, description="* : only if there is no such alias yet")
]
AliasPath = Annotated[
    str,
    Path(
        max_length=127,
        description="an alias; at most 63 characters, not all digits",
        json_schema_extra={"maxLength": 63, "pattern": ALIAS_PATTERN},
    ),
]
PATH = "/encoders/{name}/aliases/{alias}"

Known = Annotated[str | None, Header(max_length=1024, description="the ETag of what is known")]

router = guarded("/v1", "encoders", json_only=True)


@router.get(PATH, response_model=AliasOut, responses={304: {}})
@needs("read")
def get_alias(app: App, name: NamePath, alias: AliasPath, if_none_match: Known = None) -> Response:
    """Where the alias points."""
    with app.store.session() as tx:
        answer = _answer(found(aliases.get(tx, name, alias), "alias"))
    if files.not_modified(if_none_match, answer.headers["ETag"]):
        return Response(status_code=304, headers={"ETag": answer.headers["ETag"]})
    return answer


@router.put(PATH, response_model=AliasOut)
@needs("admin")
def put_alias(
    app: App,
    name: NamePath,
    alias: AliasPath,
    by: Author,
    body: Annotated[AliasIn, Depends(json_body(AliasIn))],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Point the alias to a version; by compare-and-swap with If-Match, only if it is new with If-None-Match: *."""
    with app.store.begin() as tx:
        found(encoders.get_by_ref(tx, name) if is_name(name) else None, "encoder")
        _check_alias(alias)
        aliases.lock(tx, name)
        before = aliases.get(tx, name, alias)
        try:
            moved = aliases.put(tx, name, alias, body.version, if_match=if_match, if_none_match=if_none_match)
        except NotFound:
            raise InvalidBody(errors=[Blame("/version", f"{name} has no version {body.version}")]) from None
        if moved != before:
            former = None if before is None else before.version
            audit.record(tx, by, "alias.put", f"{name}:{alias}", version=moved.version, former=former)
    app.encoders.clear()
    return _answer(moved)


@router.delete(PATH, status_code=204)
@needs("admin")
def delete_alias(
    app: App, by: Author, name: NamePath, alias: AliasPath, if_match: IfMatch = None
) -> Response:
    """Delete the alias; the version stays."""
    with app.store.begin() as tx:
        aliases.delete(tx, name, alias, if_match=if_match)
        audit.record(tx, by, "alias.delete", f"{name}:{alias}")
    app.encoders.clear()
    return Response(status_code=204)


@router.post(PATH + "/rollback", response_model=AliasOut)
@needs("admin")
def rollback_alias(
    app: App, by: Author, name: NamePath, alias: AliasPath, if_match: IfMatch = None
) -> Response:
    """Undo the last move, a deletion too: the alias points to the version before. Twice is back where it was.

    Send If-Match: an answer that was lost can then be asked for again without a second rollback.
    """
    with app.store.begin() as tx:
        moved = aliases.rollback(tx, name, alias, if_match=if_match)
        audit.record(tx, by, "alias.rollback", f"{name}:{alias}", version=moved.version)
    app.encoders.clear()
    return _answer(moved)


@router.get(PATH + "/history", response_model=ListOut[AliasMoveOut])
@needs("read")
def alias_history(
    app: App, name: NamePath, alias: AliasPath, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Every move of the alias, newest first."""
    before = None if cursor is None else number_of(cursor)
    with app.store.session() as tx:
        found(aliases.history(tx, name, alias, limit=1) or None, "alias")
        moves = aliases.history(tx, name, alias, limit=limit + 1, before=before)
    shown = moves[:limit]
    items = [{"version": move.version, "etag": move.etag, "at": rfc3339(move.at)} for move in shown]
    return views.answer(
        {"items": items, "next_cursor": str(shown[-1].revision) if len(moves) > limit else None}
    )


def _check_alias(alias: str) -> None:
    try:
        TypeAdapter(Alias).validate_python(alias)
    except ValidationError as error:
        raise InvalidBody(errors=[Blame("", words(error.errors()[0]), parameter="alias")]) from None


def _answer(row: aliases.Alias) -> Response:
    return views.answer(views.alias(row), headers={"ETag": row.etag})
