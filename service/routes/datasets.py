"""Datasets: list, read, upload, delete."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from service import catalog, uploads, views
from service.answers import DatasetOut, ListOut
from service.auth import needs
from service.replay import once
from service.routes.common import App, Caller, Cursor, Limit, NamePath, guarded
from service.store import datasets

router = guarded("/v1/datasets", "datasets", json_only=True)


@router.get("", response_model=ListOut[DatasetOut])
@needs("read")
def list_datasets(app: App, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Uploaded datasets, newest first, then the built-in ones."""
    with app.store.session() as tx:
        items, next_cursor = catalog.page(app.settings, tx, limit=limit, cursor=cursor)
    return views.answer({"items": items, "next_cursor": next_cursor})


@router.get("/{name}", response_model=DatasetOut)
@needs("read")
def get_dataset(app: App, name: NamePath) -> Response:
    """One dataset."""
    with app.store.session() as tx:
        return views.answer(catalog.view(app.settings, tx, name))


@router.post("", status_code=201, response_model=DatasetOut, openapi_extra={"x-upload-body": True})
@needs("train")
async def upload_dataset(request: Request, app: App, caller: Caller) -> Response:
    """Upload an archive of images, an .npz, .npy or .parquet file.

    201 when it is read; with Prefer: respond-async 202 at once, and state and progress at the dataset.
    """
    upload = await uploads.receive(
        request, directory=app.ingestions.scratch, max_bytes=app.settings.max_upload_bytes
    )
    try:
        fields = {"name": upload.name, "license": upload.license, "file": upload.digest}
        first = once(request, caller, fields, keep_hours=app.settings.idempotency_hours)
        begun = await anyio.to_thread.run_sync(app.ingestions.begin, upload, first, wants_async(request))
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise
    if isinstance(begun, Future):
        return await asyncio.shield(asyncio.wrap_future(begun))
    return begun


@router.delete("/{name}", status_code=204)
@needs("train")
def delete_dataset(app: App, name: NamePath) -> Response:
    """Delete an uploaded dataset; not while a job needs it."""
    catalog.require_uploaded(name)
    app.ingestions.cancel(name)
    with app.store.begin() as tx:
        catalog.require_settled(tx, name)
        datasets.delete(tx, name)
    return Response(status_code=204)


def wants_async(request: Request) -> bool:
    """Whether the client prefers not to wait (RFC 7240)."""
    wishes = ",".join(request.headers.getlist("prefer")).split(",")
    return any(wish.split(";")[0].strip().lower() == "respond-async" for wish in wishes)
