"""The files of an encoder or a generator, for use elsewhere."""

from __future__ import annotations

from typing import Annotated, BinaryIO

from fastapi import Header, Path
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service import files, views
from service.accept import choose
from service.answers import FileOut, ListOut
from service.auth import needs
from service.degraded import Ledger
from service.heads import is_head
from service.routes.common import JSON_ONLY, App, OwnerAt, found, guarded
from service.schemas import MAX_COUNT
from service.state import Services
from service.store.encoders import Encoder

HeaderText = Annotated[str | None, Header(max_length=1024)]

CONTENT = {
    kind: {"schema": {"type": "string", "format": "binary", "maxLength": MAX_COUNT}}
    for kind in sorted({"application/octet-stream", *files.MEDIA_TYPES.values()})
}

WHOLE = {**CONTENT, "application/json": {"schema": {"type": "object"}}}
"""A range of JSON is only bytes."""

router = guarded("/v1/encoders", "encoders")
of_generators = guarded("/v1/generators", "generators")


@of_generators.get(
    "/{ref}/files", response_model=ListOut[FileOut], name="list_generator_files", dependencies=JSON_ONLY
)
@router.get("/{ref}/files", response_model=ListOut[FileOut], dependencies=JSON_ONLY)
@needs("read")
def list_files(encoder: OwnerAt) -> Response:
    """Names, sizes and digests."""
    items = [
        {"name": name, "size": file.size, "digest": file.digest, "media_type": files.media_type(name)}
        for name, file in sorted(encoder.files.items())
    ]
    return views.answer({"items": items, "next_cursor": None})


@of_generators.get(
    "/{ref}/files/{file}",
    response_class=Response,
    responses={200: {"content": WHOLE}, 206: {"content": CONTENT}, 304: {}},
    name="get_generator_file",
)
@router.get(
    "/{ref}/files/{file}",
    response_class=Response,
    responses={200: {"content": WHOLE}, 206: {"content": CONTENT}, 304: {}},
)
@needs("read")
async def get_file(
    request: Request,
    app: App,
    encoder: OwnerAt,
    file: Annotated[str, Path(max_length=100)],
    if_match: HeaderText = None,
    if_none_match: HeaderText = None,
    if_range: HeaderText = None,
    range: HeaderText = None,  # noqa: A002 - the header's name
) -> Response:
    """One file, or a range of it. Its content was hashed before the first byte is sent."""
    entry = found(encoder.files.get(file), "file")
    media = files.media_type(file)
    choose(request, [media.partition(";")[0]])
    headers = {
        "ETag": files.etag(entry),
        "Repr-Digest": files.repr_digest(entry),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{file}"',
    }
    files.check_match(if_match, headers["ETag"])
    if files.not_modified(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    part = None if is_head(request) else files.wanted_range(range, if_range, entry)
    start, stop, status = (part.start, part.stop, 206) if part else (0, entry.size, 200)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = part.content_range
    if is_head(request):
        return Response(status_code=status, headers=headers, media_type=media)
    stream = await app.blob_threads.run(_opened, app, encoder, file)
    body = app.blob_threads.each(files.pieces(stream, start, stop))
    return StreamingResponse(body, status, headers=headers, media_type=media)


def _opened(app: Services, encoder: Encoder, name: str) -> BinaryIO:
    with Ledger(app.store).sending(encoder, name):
        return files.open_verified(app.store.blobs, encoder.files[name], app.ingestions.scratch)
