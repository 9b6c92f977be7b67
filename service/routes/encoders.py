"""Registered encoders: read, delete, and their reports."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from nidim.spec import NAME_PATTERN
from service import files, views
from service.accept import HTML, JSON, choose
from service.answers import EncoderOut, ListOut
from service.auth import needs
from service.refusals import NotAcceptable
from service.routes.common import App, Cursor, EncoderAt, Limit, Ref, guarded
from service.state import Services
from service.store import encoders
from service.store.encoders import Encoder

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

router = guarded("/v1/encoders", "encoders")


@router.get("", response_model=ListOut[EncoderOut])
@needs("read")
def list_encoders(
    app: App,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: Annotated[
        str | None, Query(max_length=63, pattern=NAME_PATTERN, description="versions of this name only")
    ] = None,
) -> Response:
    """Encoders, newest first."""
    with app.store.session() as tx:
        page = encoders.list_(tx, name=name, limit=limit, cursor=cursor)
    return views.page([views.encoder(row) for row in page.items], page)


@router.get("/{ref}", response_model=EncoderOut)
@needs("read")
def get_encoder(encoder: EncoderAt) -> Response:
    """One version of an encoder."""
    return views.answer(views.encoder(encoder))


@router.delete("/{ref}", status_code=204)
@needs("admin")
async def delete_encoder(app: App, ref: Ref) -> Response:
    """Delete one version, named by its id or name@version; not while an alias points to it.

    Its files go when retention has found that nothing else refers to them.
    """
    encoder = await anyio.to_thread.run_sync(_delete, app, ref)
    app.encoders.clear()
    app.serving.registry.forget(encoder.id)
    return Response(status_code=204)


@router.get("/{ref}/report")
@needs("read")
def report(request: Request, app: App, encoder: EncoderAt) -> Response:
    """The full report: JSON, or a page for people with Accept: text/html."""
    if choose(request, (JSON, HTML)) == HTML:
        if files.PAGE not in encoder.files:
            raise NotAcceptable("This encoder has no page; ask for application/json.")
        data = files.whole(app.store.blobs, encoder, files.PAGE)
        return Response(data, media_type=HTML, headers={"Content-Security-Policy": REPORT_POLICY})
    if files.REPORT not in encoder.files:
        return views.answer(encoder.report)
    return Response(files.whole(app.store.blobs, encoder, files.REPORT), media_type=JSON)


def _delete(app: Services, ref: str) -> Encoder:
    with app.store.begin() as tx:
        return encoders.delete(tx, ref)
