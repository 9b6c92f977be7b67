"""Datasets: list, read, upload, delete."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from service import catalog, tidying, uploads, views
from service.answers import DatasetOut, ListOut
from service.auth import needs
from service.errors import StorageFull
from service.replay import is_answered, once
from service.routes.common import App, Author, Caller, Cursor, Limit, NamePath, guarded
from service.state import Services
from service.store import audit, datasets, quota
from service.store.audit import By

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
async def upload_dataset(request: Request, app: App, caller: Caller, by: Author) -> Response:
    """Upload an archive of images, an .npz, .npy or .parquet file.

    201 when it is read; with Prefer: respond-async 202 at once, and state and progress at the dataset. The name of one
    whose reading failed is free.
    """
    again = await anyio.to_thread.run_sync(is_answered, request, caller, app.store)
    upload = await _received(request, app, by, keep=not again)
    try:
        fields = {"name": upload.name, "license": upload.license, "file": upload.digest}
        first = once(request, caller, fields, keep_hours=app.settings.idempotency_hours)
        begun = await anyio.to_thread.run_sync(app.ingestions.begin, by, upload, first, wants_async(request))
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise
    if isinstance(begun, Future):
        return await asyncio.shield(asyncio.wrap_future(begun))
    return begun


@router.delete("/{name}", status_code=204)
@needs("train")
async def delete_dataset(app: App, by: Author, name: NamePath) -> Response:
    """Delete an uploaded dataset; not while a job needs it."""
    catalog.require_uploaded(name)
    digests = await anyio.to_thread.run_sync(_delete, app, by, name)
    await tidying.discard(app, digests)
    return Response(status_code=204)


def _delete(app: Services, by: By, name: str) -> list[str | None]:
    """Digests of the blobs that nothing may need any more."""
    undone = app.ingestions.cancel(name)
    with app.store.begin() as tx:
        if undone and datasets.get(tx, name) is None:
            audit.record(tx, by, "dataset.delete", name)
            return []
        catalog.require_settled(tx, name)
        gone = datasets.delete(tx, name)
        audit.record(tx, by, "dataset.delete", name)
    return [gone.blob_digest, gone.index_digest]


async def _received(request: Request, app: Services, by: By, *, keep: bool) -> uploads.Upload:
    """The upload on our disk, if it is to be kept. Raises Overloaded, StorageFull, QuotaExceeded."""
    try:
        with app.ingestions.arrivals.one(by) as arrival:
            if keep:
                await anyio.to_thread.run_sync(arrival.expect, _declared_size(request))
            return await uploads.receive(
                request,
                directory=app.ingestions.scratch,
                max_bytes=app.settings.max_upload_bytes,
                room=arrival.room_for,
                keep=keep,
            )
    except OSError as error:
        if quota.is_full(error):
            raise StorageFull(retry_after_s=quota.RETRY_S) from error
        raise


def _declared_size(request: Request) -> int:
    """Content-Length, where there is one; what arrives is counted whatever it says."""
    given = request.headers.get("content-length", "")
    return int(given) if given.isdecimal() and len(given) < 19 else 0


def wants_async(request: Request) -> bool:
    """Whether the client prefers not to wait (RFC 7240)."""
    wishes = ",".join(request.headers.getlist("prefer")).split(",")
    return any(wish.split(";")[0].strip().lower() == "respond-async" for wish in wishes)
