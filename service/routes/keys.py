"""API keys: create, list, revoke. With the first key the server stops being open."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from service import issuing, keyring, views
from service.answers import KeyOut, ListOut, NewKeyOut
from service.auth import needs
from service.bodies import json_body
from service.replay import once
from service.routes.common import App, Author, Caller, Cursor, IdPath, Limit, guarded
from service.schemas import KeyIn
from service.store import keys

router = guarded("/v1/keys", "keys", json_only=True)


@router.get("", response_model=ListOut[KeyOut])
@needs("admin")
def list_keys(app: App, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every key, newest first, without its secret."""
    with app.store.session() as tx:
        page = keys.page(tx, limit=limit, cursor=cursor)
    return views.page([views.key(key) for key in page.items], page)


@router.post("", status_code=201, response_model=NewKeyOut)
@needs("admin")
def create_key(
    request: Request,
    app: App,
    caller: Caller,
    by: Author,
    body: Annotated[KeyIn, Depends(json_body(KeyIn))],
) -> Response:
    """A new key. Its secret is shown this once: only the same request with the same Idempotency-Key sees it again.

    The first key ends the time in which everybody on this machine may do everything: let it be an admin's, for only
    an admin's key, or `nidim keys create` on the server's machine, makes more.
    """
    wish = body.model_dump(mode="json", exclude_unset=True)
    return issuing.issue(
        app, by, body, once(request, caller, wish, keep_hours=app.settings.idempotency_hours)
    )


@router.delete("/{key_id}", status_code=204)
@needs("admin")
def revoke_key(app: App, by: Author, key_id: IdPath) -> Response:
    """Make a key useless from now on."""
    with app.store.begin() as tx:
        keyring.revoke(tx, by, key_id)
    app.callers.clear()
    return Response(status_code=204)
