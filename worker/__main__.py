"""``python -m worker [--name NAME]``: one training slot, until SIGTERM."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from celery import signals

from service import entry
from service.store import open_store
from service.tracing import Tracer
from worker import strangers
from worker.app import make_app
from worker.starting import way_to_start
from worker.tasks import owner, register


def main(argv: list[str] | None = None) -> None:
    """Work until told to stop; then the running training writes a checkpoint and its job goes back to the queue."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="slot0", help="name of this slot in logs and leases")
    name = parser.parse_args(argv).name
    settings = entry.begin("worker", worker=owner(name))
    signals.setup_logging.connect(_leave_logging_alone)
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


if __name__ == "__main__":
    main()
