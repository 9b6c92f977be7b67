"""API keys: create, list, revoke. With the first key the server stops being open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from service import views
from service.answers import KeyOut, ListOut, NewKeyOut
from service.auth import needs
from service.bodies import json_body
from service.refusals import Blame, InvalidBody
from service.routes.common import App, IdPath, guarded
from service.schemas import KeyIn
from service.store import keys

router = guarded("/v1/keys", "keys", json_only=True)


@router.get("", response_model=ListOut[KeyOut])
@needs("admin")
def list_keys(app: App) -> Response:
    """Every key, newest first, without its secret."""
    with app.store.session() as tx:
        items = [views.key(key) for key in keys.list_(tx)]
    return views.answer({"items": items, "next_cursor": None})


@router.post("", status_code=201, response_model=NewKeyOut)
@needs("admin")
def create_key(app: App, body: Annotated[KeyIn, Depends(json_body(KeyIn))]) -> Response:
    """A new key. Its secret is shown this once and cannot be had again.

    For that reason no Idempotency-Key is taken here: the answer is kept nowhere.
    """
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise InvalidBody(errors=[Blame("/expires_at", "is in the past")])
    with app.store.begin() as tx:
        key, secret = keys.create(
            tx, pepper=app.store.pepper, name=body.name, scopes=body.scopes, expires_at=body.expires_at
        )
    app.callers.clear()
    return views.answer({**views.key(key), "key": secret}, 201)


@router.delete("/{key_id}", status_code=204)
@needs("admin")
def revoke_key(app: App, key_id: IdPath) -> Response:
    """Make a key useless from now on."""
    with app.store.begin() as tx:
        keys.revoke(tx, key_id)
    app.callers.clear()
    return Response(status_code=204)
