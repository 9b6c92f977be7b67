"""``python -m service.serve [--fd N]``: the API process, on a listening socket that it inherits or on its own.

The launcher opens the socket and hands it down: the port is known before the first byte, a port in use is noticed
at once, and clients that come while the API starts again wait in the socket's queue instead of being refused.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import math
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

    from service.settings import Settings

YOUNG = 20_000
"""New objects after which they are looked through for garbage. Python's 700 are made by a few requests, all of which
are still at work then: nothing is found, and it is looked for again."""


def configuration(settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the app; without its access log, which costs more than some of the requests."""
    import uvicorn

    from service import farewell
    from service.app import create_app
    from service.protocol import bounded

    app = create_app(settings)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s + farewell.LAST_WORDS_S),
        backlog=2048,
        http=bounded(settings.body_timeout_s, app.state.early),
        ws="none",
    )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within it nothing is looked through for garbage, nor what is there at its end ever after.

    Importing makes a quarter of a million objects that stay. Collections in between were an eighth of the start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
        gc.enable()


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m service.serve", description=__doc__)
    parser.add_argument("--fd", type=int, help="number of an inherited listening socket")
    given = parser.parse_args(argv)
    sockets = None if given.fd is None else [socket.socket(fileno=given.fd)]
    with uncollected():
        from service import entry, farewell

        settings = entry.begin("api")
        server = farewell.Server(configuration(settings), grace_s=settings.shutdown_grace_s)
    server.run(sockets=sockets)


if __name__ == "__main__":
    main()
