"""The one task: a job id comes in, ``run_job`` does the rest."""

from __future__ import annotations

import logging
import os
import socket
from functools import partial
from typing import Any

from celery import Celery
from celery.worker import state

from service.queue import TASK, publish
from service.settings import Settings
from service.store import Store, counters
from service.tracing import Tracer
from worker.runner import run_job
from worker.starting import Start

log = logging.getLogger(__name__)


def draining() -> bool:
    """Whether this worker was told to stop. Celery's flags hold an exit code, which may be 0, or a truth value."""
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))


def owner(name: str) -> str:
    """Who holds a lease; never the same for two processes."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}"


def register(
    app: Celery,
    settings: Settings,
    store: Store,
    *,
    name: str,
    start: Start | None = None,
    tracer: Tracer | None = None,
) -> None:
    """Teach ``app`` its task."""

    @app.task(name=TASK, ignore_result=True)
    def train(job_id: Any = None, **unknown: Any) -> None:
        if not isinstance(job_id, str) or unknown:
            log.warning("a message that names no job is dropped")
            counters.note(store, counters.MESSAGES_DROPPED, counters.MALFORMED)
            return
        ring = partial(publish, settings.broker_url)
        run_job(
            job_id,
            store=store,
            settings=settings,
            owner=owner(name),
            publish=ring,
            should_drain=draining,
            start=start,
            tracer=tracer,
        )
