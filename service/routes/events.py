"""The events of a job, as a stream that resumes without loss or as a list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

import anyio.to_thread
import orjson
from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service import views
from service.accept import EVENTS, JSON, choose
from service.answers import EventOut, ListOut
from service.auth import needs
from service.refusals import Blame, InvalidBody
from service.routes.common import App, IdPath, found, guarded
from service.schemas import MAX_COUNT
from service.state import Services
from service.store import events, jobs
from service.store.events import Event

PAGE = 500
RETRY_MS = 1000

router = guarded("/v1/jobs", "jobs")


@router.get(
    "/{job_id}/events",
    response_model=ListOut[EventOut],
    responses={200: {"content": {EVENTS: {"schema": {"type": "string", "maxLength": MAX_COUNT}}}}},
)
@needs("read")
async def read_events(
    request: Request,
    app: App,
    job_id: IdPath,
    after: Annotated[int, Query(ge=0, le=MAX_COUNT, description="events with a higher id only")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="events of the JSON list")] = 10_000,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """Server-sent events until the job has ended; with Accept: application/json the list so far."""
    media = choose(request, (EVENTS, JSON))
    if last_event_id:
        after = max(after, _parsed(last_event_id))
    await anyio.to_thread.run_sync(_require_job, app, job_id)
    if media == JSON:
        return await anyio.to_thread.run_sync(_listed, app, job_id, after, limit)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(app, job_id, after), media_type=EVENTS, headers=headers)


def _parsed(last_event_id: str) -> int:
    if not last_event_id.isascii() or not last_event_id.isdecimal():
        raise InvalidBody(errors=[Blame("", "must be the id of an event", parameter="Last-Event-ID")])
    return int(last_event_id)


def _require_job(app: Services, job_id: str) -> None:
    with app.store.session() as tx:
        found(jobs.get(tx, job_id), "job")


def _listed(app: Services, job_id: str, after: int, limit: int) -> Response:
    with app.store.session() as tx:
        rows = events.list_after(tx, job_id, after, limit)
    cursor = str(rows[-1].id) if len(rows) == limit else None
    return views.answer({"items": [views.event(row) for row in rows], "next_cursor": cursor})


async def _stream(app: Services, job_id: str, after: int) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    spoken = time.monotonic()
    while not app.stopping.is_set():
        rows, over = await anyio.to_thread.run_sync(_next, app, job_id, after)
        if rows:
            yield b"".join(_sse(row) for row in rows)
            after, spoken = rows[-1].id, time.monotonic()
        elif time.monotonic() - spoken > app.settings.sse_ping_s:
            yield b": still here\n\n"
            spoken = time.monotonic()
        if over:
            return
        if len(rows) < PAGE:
            await _pause(app)


def _next(app: Services, job_id: str, after: int) -> tuple[list[Event], bool]:
    """The next events, and whether they are the last ones: the job has ended and nothing follows."""
    with app.store.session() as tx:
        rows = events.list_after(tx, job_id, after, PAGE)
        job = jobs.get(tx, job_id)
    return rows, job is None or (job.is_terminal and len(rows) < PAGE)


async def _pause(app: Services) -> None:
    try:
        async with asyncio.timeout(app.settings.sse_poll_s):
            await app.stopping.wait()
    except TimeoutError:
        return


def _sse(row: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row.id, row.type.encode(), orjson.dumps(views.event(row)))
