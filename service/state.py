"""What lives as long as the application: settings, store, encoders in memory, counters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request

from service.limits import KeyLimits
from service.memo import Memo
from service.tracing import Tracer
from service.waiting import Waiting

if TYPE_CHECKING:
    from service.auth import Caller
    from service.bell import Bell
    from service.blob_threads import BlobThreads
    from service.broadcast import Broadcaster
    from service.inference.drift import Drifts
    from service.inference.generating import Generating
    from service.inference.serving import Serving
    from service.ingestion import Ingestions
    from service.metrics import Metrics
    from service.previews import Turns
    from service.settings import Settings
    from service.store import Store
    from service.store.encoders import Encoder


@dataclass(frozen=True)
class Services:
    """Made when the application starts, closed when it stops."""

    settings: Settings
    store: Store
    blob_threads: BlobThreads
    serving: Serving
    drifts: Drifts
    generating: Generating
    metrics: Metrics
    bell: Bell
    ingestions: Ingestions
    previews: Turns
    broadcaster: Broadcaster
    limits: KeyLimits
    tracer: Tracer = field(default_factory=Tracer)
    waiting: Waiting = field(default_factory=Waiting)
    callers: Memo[str | None, Caller] = field(default_factory=Memo)
    """Secret -> whose it is."""
    encoders: Memo[str, Encoder] = field(default_factory=Memo)
    """Reference -> encoder, for embedding."""
    generators: Memo[str, Encoder] = field(default_factory=Memo)
    """Reference -> generator."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def services(request: Request) -> Services:
    """The services of the application that answers ``request``."""
    found: Services = request.app.state.services
    return found
