"""``python -m worker [--name NAME]``: one training slot, until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import warnings
from typing import Any

from celery import signals
from celery.apps import worker as celery_worker

from service import entry
from service.store import open_store
from service.tracing import Tracer
from worker import strangers
from worker.app import make_app
from worker.starting import way_to_start
from worker.tasks import owner, register

log = logging.getLogger("celery.apps.worker")


def main(argv: list[str] | None = None) -> None:
    """Work until told to stop; then the running training writes a checkpoint and its job goes back to the queue."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="slot0", help="name of this slot in logs and leases")
    name = parser.parse_args(argv).name
    settings = entry.begin("worker", worker=owner(name))
    signals.setup_logging.connect(_leave_logging_alone)
    celery_worker.safe_say = _say
    warnings.filterwarnings(
        "ignore", module=r"celery\."
    )  # advice on containers and on its next major version
    app = make_app(settings)
    store = open_store(settings)
    tracer = Tracer()
    tracer.open(settings, part="worker")
    start = way_to_start(warm=settings.warm_trainings, exports=settings.export_onnx)
    register(app, settings, store, name=name, start=start, tracer=tracer)
    strangers.count(store)
    options = ["--hostname", f"{name}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    try:
        app.worker_main(["--quiet", "worker", *options, "--loglevel", settings.log_level])
    finally:
        tracer.close()


def _leave_logging_alone(**_: Any) -> None:
    """Celery sets up no logging of its own where this signal has a receiver."""


def _say(message: str, f: object = None) -> None:  # noqa: ARG001
    """What Celery says in its signal handlers, as a line of the log: it would be text on standard output.

    Written at once, since what was interrupted may be writing to the log itself.
    """
    if log.isEnabledFor(logging.INFO):
        (handler,) = logging.getLogger().handlers
        record = logging.LogRecord(log.name, logging.INFO, "", 0, message, None, None)
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{handler.format(record)}\n".encode())


if __name__ == "__main__":
    main()
