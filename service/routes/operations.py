"""For operators and people: health, readiness, metrics, the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from nidim import __version__
from service import gauges, views
from service.answers import HealthOut, ReadyOut
from service.auth import needs
from service.health import BlobWatch, BrokerWatch, degraded
from service.routes.common import App, guarded
from service.schemas import MAX_COUNT
from service.siblings import Siblings
from service.store import figures

WEB = Path(__file__).resolve().parent.parent / "web"
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE_HEADERS = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
FIGURES = {"text/plain": {"schema": {"type": "string", "maxLength": MAX_COUNT}}}

public = APIRouter(tags=["operations"])
protected = guarded("", "operations")


async def broker_watch(request: Request) -> BrokerWatch:
    """The one watch of the application."""
    watch: BrokerWatch = request.app.state.broker_watch
    return watch


async def blob_watch(request: Request) -> BlobWatch:
    """The other one."""
    watch: BlobWatch = request.app.state.blob_watch
    return watch


async def all_siblings(request: Request) -> Siblings:
    """Of the application."""
    found: Siblings = request.app.state.siblings
    return found


Broker = Annotated[BrokerWatch, Depends(broker_watch)]
BlobStore = Annotated[BlobWatch, Depends(blob_watch)]
Together = Annotated[Siblings, Depends(all_siblings)]


@public.get("/healthz", response_model=HealthOut)
async def healthz() -> Response:
    """The process is alive."""
    return views.answer({"status": "ok", "version": __version__})


@public.get("/readyz", response_model=ReadyOut)
async def readyz(app: App, broker: Broker, blobs: BlobStore) -> Response:
    """A real forward pass and the store: 503 only if one of them fails."""
    return views.answer({"status": "ready", "degraded": await degraded(app, broker, blobs)})


@protected.get("/metrics", response_class=Response, responses={200: {"content": FIGURES}})
@needs("read")
def metrics(app: App, siblings: Together) -> Response:
    """Counters in Prometheus' text format, of all API processes of one `nidim up`."""
    with app.store.session() as tx:
        system = figures.read(tx)
    present = [*gauges.of_system(system), *gauges.of_processes(siblings.moments())]
    return Response(app.metrics.render(present), media_type=app.metrics.content_type)


class Static(StaticFiles):
    """The files of the pages: a browser asks whether it has the newest, and is not sent them again."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """With the header that says so."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


@public.get("/", include_in_schema=False)
async def index() -> Response:
    """The dashboard."""
    return _page("index.html")


@public.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The reference, made from /openapi.json in the browser; nothing comes from elsewhere."""
    return _page("docs.html")


def _page(name: str) -> Response:
    return FileResponse(WEB / name, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)
