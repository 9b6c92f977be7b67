"""Jobs: submit, read, cancel, retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from nidim.spec.targets import MOST_VALUES
from service import submission, views
from service.answers import CheckOut, JobOut, ListOut
from service.auth import needs
from service.bodies import json_body
from service.replay import once
from service.routes.common import App, Author, Caller, Cursor, IdPath, Limit, found, guarded
from service.schemas import CheckIn, JobIn, JobState
from service.store import jobs

router = guarded("/v1/jobs", "jobs", json_only=True)


@router.post("", status_code=202, response_model=JobOut)
@needs("train")
def submit(
    request: Request,
    app: App,
    caller: Caller,
    by: Author,
    body: Annotated[JobIn, Depends(json_body(JobIn, values=MOST_VALUES, lists=MOST_VALUES // 2))],
) -> Response:
    """Train an encoder. The answer is the queued job; its spec has every default filled in."""
    wish = body.model_dump(mode="json", exclude_unset=True)
    return submission.submit(
        app, by, body, once(request, caller, wish, keep_hours=app.settings.idempotency_hours)
    )


@router.post("/check", response_model=CheckOut)
@needs("read")
def check(
    app: App,
    body: Annotated[CheckIn, Depends(json_body(CheckIn, values=MOST_VALUES, lists=MOST_VALUES // 2))],
) -> Response:
    """What a job of this spec would be: every default filled in, what "auto" becomes, warnings. Nothing is kept."""
    return submission.check(app, body.spec)


@router.get("", response_model=ListOut[JobOut])
@needs("read")
def list_jobs(
    app: App,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: Annotated[JobState | None, Query(description="jobs of this state only")] = None,
) -> Response:
    """Jobs, newest first."""
    with app.store.session() as tx:
        page = jobs.list_(tx, state=state, limit=limit, cursor=cursor)
    return views.page([views.job(job) for job in page.items], page)


@router.get("/{job_id}", response_model=JobOut)
@needs("read")
def get_job(app: App, job_id: IdPath) -> Response:
    """One job; here alone a spec shows the points of its prior."""
    with app.store.session() as tx:
        return views.answer(views.job(found(jobs.get(tx, job_id), "job"), whole=True))


@router.post("/{job_id}/cancel", status_code=202, response_model=JobOut)
@needs("train")
def cancel(app: App, by: Author, job_id: IdPath) -> Response:
    """Cancel a job; a running one within seconds. Cancelling twice is no error."""
    return submission.cancel(app, by, job_id)


@router.post("/{job_id}/retry", status_code=202, response_model=JobOut)
@needs("train")
def retry(request: Request, app: App, caller: Caller, by: Author, job_id: IdPath) -> Response:
    """A new job that goes on from the last checkpoint of a failed or cancelled one."""
    return submission.retry(
        app, by, job_id, once(request, caller, None, keep_hours=app.settings.idempotency_hours)
    )
