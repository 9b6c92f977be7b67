"""The application: ``create_app(settings)``. Importing this costs no torch."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from nidim import __version__
from service import openapi, problems, queue, whereabouts
from service.bell import Bell
from service.blob_threads import BlobThreads
from service.broadcast import Broadcaster
from service.degraded import Ledger
from service.exposure import check_exposure
from service.gate import Early, Gate, Gated
from service.heads import Heads
from service.health import BlobWatch, BrokerWatch, look
from service.inference.drift import Drifts
from service.inference.generating import Generating
from service.inference.serving import Serving
from service.ingestion import Ingestions
from service.keyring import create_bootstrap_key
from service.limits import KeyLimits, Leaving
from service.metrics import Metrics
from service.middleware import Edge
from service.previews import Turns
from service.reaper import Reaper
from service.routes import (
    aliases,
    audit,
    datasets,
    drift,
    embed,
    encoders,
    events,
    files,
    generators,
    jobs,
    keys,
    openai,
    operations,
    pictures,
    prior,
)
from service.settings import Settings
from service.siblings import Siblings
from service.state import Services
from service.store import Store, open_store, scratch
from service.store import keys as key_store
from service.tracing import Tracer

ROUTERS = (
    *(embed.router, openai.router, prior.router, jobs.router, events.router, encoders.router),
    *(generators.router, drift.router, aliases.router, files.router, files.of_generators),
    *(datasets.router, pictures.router, keys.router, audit.router),
    *(operations.protected, operations.public),
)
"""All routes, the most frequent ones first; all but the last are guarded."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


class Exposed(RuntimeError):
    """The server refuses to start: others could reach it and anybody could use it."""


def create_app(settings: Settings) -> FastAPI:
    """The API on ``settings``. The store is opened when the application starts, not here."""
    metrics, tracer = Metrics(), Tracer()
    app = FastAPI(
        title="nidim",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=functools.partial(_lifespan, settings=settings, metrics=metrics, tracer=tracer),
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # flat: nested routers are matched one by one, at each level
    app.mount("/static", operations.Static(directory=operations.WEB), name="static")
    problems.install(app)
    openapi.install(app)
    gate = Gate(most=settings.serve_requests, routes=[*embed.router.routes, *openai.router.routes])
    app.state.early = Early(gate, observer=metrics, tracer=tracer)
    app.add_middleware(Gated, gate=gate)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(Heads)
    app.add_middleware(Leaving)
    app.add_middleware(Edge, observer=metrics, tracer=tracer)
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI, *, settings: Settings, metrics: Metrics, tracer: Tracer
) -> AsyncIterator[None]:
    tracer.open(settings, part="api")
    store = await anyio.to_thread.run_sync(_opened, settings)
    publish = functools.partial(queue.publish, settings.broker_url)
    with scratch.own(settings.data_dir / "scratch") as room:
        await anyio.to_thread.run_sync(scratch.remove_stale, store, room.parent)
        services = _services(settings, store, metrics, tracer, room)
        app.state.services = services
        app.state.broker_watch = broker = BrokerWatch(settings.broker_url)
        app.state.blob_watch = blobs = BlobWatch(store.blobs)
        app.state.siblings = Siblings(metrics.shared, functools.partial(look, services, broker, blobs))
        warming = asyncio.create_task(services.serving.decoder.warm())
        with (
            _in_a_thread("reaper", Reaper(store, publish, settings).run_forever),
            _in_a_thread("drift", services.drifts.run_forever),
            _in_a_thread("siblings", app.state.siblings.run_forever),
            _noticing_signals(services.stopping),
            whereabouts.told_on_request(),
        ):
            yield
            services.stopping.set()
            await services.broadcaster.close()
            await asyncio.gather(warming, return_exceptions=True)
            await services.generating.close()
            await services.serving.close()
            await anyio.to_thread.run_sync(services.ingestions.close)
            await anyio.to_thread.run_sync(services.bell.close)
    await anyio.to_thread.run_sync(store.close)
    await anyio.to_thread.run_sync(tracer.close)


def _services(settings: Settings, store: Store, metrics: Metrics, tracer: Tracer, room: Path) -> Services:
    """``room`` is for files of this process only."""
    stopping = asyncio.Event()
    serving = Serving(settings, store.blobs, scratch=room, watch=metrics, notes=Ledger(store))
    return Services(
        settings=settings,
        store=store,
        blob_threads=BlobThreads(patience_s=settings.blob_timeout_s),
        serving=serving,
        drifts=Drifts(store, serving.laws, serving.calibrations, settings),
        generating=Generating(settings, store.blobs, scratch=room, notes=Ledger(store)),
        metrics=metrics,
        bell=Bell(store, functools.partial(queue.publisher, settings.broker_url), tracer),
        tracer=tracer,
        ingestions=Ingestions(store, settings, scratch=room),
        previews=Turns(),
        limits=KeyLimits(settings),
        broadcaster=Broadcaster(store, stopping, poll_s=settings.sse_poll_s, most=settings.max_event_streams),
        stopping=stopping,
    )


def _opened(settings: Settings) -> Store:
    """The store, with the first key if one is to be made. Raises Exposed."""
    store = open_store(settings)
    create_bootstrap_key(settings, store)
    with store.session() as tx:
        has_keys = key_store.exist(tx)
    if reason := check_exposure(settings, has_keys=has_keys):
        store.close()
        raise Exposed(reason)
    return store


@contextlib.contextmanager
def _in_a_thread(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """``work`` goes on until it is told to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


@contextlib.contextmanager
def _noticing_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set ``stopping`` as soon as the process is told to stop.

    The server waits for open connections before it tells the application; event streams would never end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in SIGNALS}

    def notice(handler: Callable[..., object]) -> Callable[..., None]:
        def handle(number: int, frame: object) -> None:
            loop.call_soon_threadsafe(stopping.set)
            handler(number, frame)

        return handle

    chained = {number: notice(handler) for number, handler in former.items() if callable(handler)}
    for number, handler in chained.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in chained:
            signal.signal(number, former[number])
