"""``python -m worker [--name NAME]``: one training slot, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import warnings

from service.settings import Settings
from service.store import open_store
from worker.app import make_app
from worker.tasks import register


def main(argv: list[str] | None = None) -> None:
    """Work until told to stop; then the running training writes a checkpoint and its job goes back to the queue."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="slot0", help="name of this slot in logs and leases")
    name = parser.parse_args(argv).name
    settings = Settings()
    level = settings.log_level.upper()
    logging.basicConfig(level=level, format=f"%(asctime)s {name} %(name)s: %(message)s")
    for chatty in ("alembic", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", module=r"celery\."
    )  # advice on containers and on its next major version
    app = make_app(settings)
    store = open_store(settings)
    register(app, settings, store, name=name)
    options = ["--hostname", f"{name}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["--quiet", "worker", *options, "--loglevel", settings.log_level])


if __name__ == "__main__":
    main()
