"""Registered encoders: read, delete, and their reports."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from nidim.spec import NAME_PATTERN
from service import files, tidying, views
from service.accept import HTML, JSON, choose
from service.answers import EncoderOut, ListOut
from service.auth import needs
from service.degraded import Ledger
from service.refusals import NotAcceptable
from service.routes.common import JSON_ONLY, App, Author, Cursor, EncoderAt, Limit, guarded
from service.schemas import MAX_COUNT
from service.state import Services
from service.store import audit, encoders
from service.store.audit import By
from service.store.encoders import Encoder

VERSION_PATTERN = r"^(enc_[0-9a-z]{1,60}|[a-z0-9][a-z0-9._-]{0,62}@[1-9][0-9]{0,8})$"
VersionRef = Annotated[
    str,
    Path(max_length=127, description="enc_… or name@3", json_schema_extra={"pattern": VERSION_PATTERN}),
]
PAGE = {"type": "string", "maxLength": MAX_COUNT}
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

router = guarded("/v1/encoders", "encoders")


@router.get("", response_model=ListOut[EncoderOut], dependencies=JSON_ONLY)
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


@router.get("/{ref}", response_model=EncoderOut, dependencies=JSON_ONLY)
@needs("read")
def get_encoder(encoder: EncoderAt) -> Response:
    """One version of an encoder."""
    return views.answer(views.encoder(encoder))


@router.delete("/{ref}", status_code=204)
@needs("admin")
async def delete_encoder(app: App, by: Author, ref: VersionRef) -> Response:
    """Delete one version, named by its id or name@version; not while an alias points to it, or a job waits for it.

    Generators that were trained with it go on, but from images they can make nothing any more (409 source_gone).
    Its files go with it, unless something else refers to them; the youngest ones go later.
    """
    encoder = await anyio.to_thread.run_sync(_delete, app, by, ref)
    app.encoders.clear()
    app.serving.registry.forget(encoder.id)
    await tidying.discard(app, [file.digest for file in encoder.files.values()])
    return Response(status_code=204)


@router.get("/{ref}/report", responses={200: {"content": {HTML: {"schema": PAGE}}}})
@needs("read")
async def report(request: Request, app: App, encoder: EncoderAt) -> Response:
    """The full report: JSON, or a page for people with Accept: text/html."""
    if choose(request, (JSON, HTML)) == HTML:
        if files.PAGE not in encoder.files:
            raise NotAcceptable("This encoder has no page; ask for application/json.")
        data = await app.blob_threads.run(_whole, app, encoder, files.PAGE)
        return Response(data, media_type=HTML, headers={"Content-Security-Policy": REPORT_POLICY})
    if files.REPORT not in encoder.files:
        return views.answer(encoder.report)
    data = await app.blob_threads.run(_whole, app, encoder, files.REPORT)
    return Response(data, media_type=JSON)


def _whole(app: Services, encoder: Encoder, name: str) -> bytes:
    with Ledger(app.store).sending(encoder, name):
        return files.whole(app.store.blobs, encoder, name)


def _delete(app: Services, by: By, ref: str) -> Encoder:
    with app.store.begin() as tx:
        encoder = encoders.delete(tx, ref)
        audit.record(tx, by, "encoder.delete", encoder.id, version=f"{encoder.name}@{encoder.version}")
    return encoder
