"""``python -m service.serve [--fd N]``: the API process, on a listening socket that it inherits or on its own.

The launcher opens the socket and hands it down: the port is known before the first byte, a port in use is noticed
at once, and clients that come while the API starts again wait in the socket's queue instead of being refused.
"""

from __future__ import annotations

import argparse
import math
import socket

import uvicorn

from service import farewell, logs
from service.app import create_app
from service.protocol import bounded
from service.settings import Settings


def configuration(settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the app; without its access log, which costs more than some of the requests."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s + farewell.LAST_WORDS_S),
        backlog=2048,
        http=bounded(settings.body_timeout_s),
        ws="none",
    )


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m service.serve", description=__doc__)
    parser.add_argument("--fd", type=int, help="number of an inherited listening socket")
    given = parser.parse_args(argv)
    sockets = None if given.fd is None else [socket.socket(fileno=given.fd)]
    settings = Settings()
    logs.set_up(settings, part="api")
    farewell.Server(configuration(settings), grace_s=settings.shutdown_grace_s).run(sockets=sockets)


if __name__ == "__main__":
    main()
