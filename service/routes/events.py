"""The events of a job, as a stream that resumes without loss or as a list."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated

import anyio.to_thread
from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service import views
from service.accept import EVENTS, JSON, choose
from service.answers import EventOut, ListOut
from service.auth import Watch, needs
from service.channels import Reader
from service.refusals import Blame, InvalidBody
from service.routes.common import App, IdPath, found, guarded
from service.schemas import MAX_COUNT
from service.state import Services
from service.store import events, jobs
from service.store.paging import number_of

RETRY_MS = 1000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DIGITS = "^[0-9]*$"

MESSAGE = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 20, "description": "monotone per job; for Last-Event-ID"},
        "event": {"type": "string", "maxLength": 64, "description": "the event's type"},
        "data": {"type": "string", "maxLength": MAX_COUNT, "description": "the event as JSON"},
        "retry": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
    },
}
"""One message of the stream: before version 3.2 of OpenAPI the schema of a stream is that of its items."""

router = guarded("/v1/jobs", "jobs")


@router.get(
    "/{job_id}/events",
    response_model=ListOut[EventOut],
    responses={200: {"content": {EVENTS: {"schema": MESSAGE}}}},
)
@needs("read")
async def read_events(
    request: Request,
    app: App,
    job_id: IdPath,
    after: Annotated[int, Query(ge=0, le=MAX_COUNT, description="events with a higher id only")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="events of the JSON list")] = 10_000,
    cursor: Annotated[
        str | None, Query(max_length=512, description="next_cursor of the list before, instead of after")
    ] = None,
    last_event_id: Annotated[str | None, Header(max_length=20, pattern=DIGITS)] = None,
) -> Response:
    """Server-sent events until the job has ended; with Accept: application/json the list so far."""
    media = choose(request, (EVENTS, JSON))
    if last_event_id:
        after = max(after, _parsed(last_event_id))
    if cursor is not None:
        after = max(after, number_of(cursor))
    if media == JSON:
        return await anyio.to_thread.run_sync(_listed, app, job_id, after, limit)
    return _Stream(app, job_id, after, Watch(request))


def _parsed(last_event_id: str) -> int:
    if not last_event_id.isascii() or not last_event_id.isdecimal():
        raise InvalidBody(errors=[Blame("", "must be the id of an event", parameter="Last-Event-ID")])
    return int(last_event_id)


def _listed(app: Services, job_id: str, after: int, limit: int) -> Response:
    with app.store.session() as tx:
        found(next(jobs.heads(tx, [job_id]), None), "job")
        rows = events.list_after(tx, job_id, after, limit + 1)
    shown = rows[:limit]
    cursor = str(shown[-1].id) if len(rows) > limit else None
    return views.answer({"items": [views.event(row) for row in shown], "next_cursor": cursor})


class _Stream(StreamingResponse):
    """Its reader is among those of the job for exactly as long as the answer takes, however that ends."""

    def __init__(self, app: Services, job_id: str, after: int, watch: Watch) -> None:
        super().__init__((), media_type=EVENTS, headers=HEADERS)
        self._app, self._job_id, self._after, self._watch = app, job_id, after, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with (
            self._app.broadcaster.following(self._job_id, self._after) as reader,
            contextlib.aclosing(self._told(reader)) as self.body_iterator,
        ):
            await super().__call__(scope, receive, send)

    async def _told(self, reader: Reader) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        async for data in self._app.broadcaster.chunks(reader, ping_s=self._app.settings.sse_ping_s):
            if not await self._watch.allows():
                return
            yield data or b": still here\n\n"
