"""``python -m benchmarks.speed.bare FD ANSWER``: what FastAPI and our uvicorn settings cost with no work behind them.

It reads the body and answers with the bytes of the file ANSWER, on the listening socket that it inherits.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from fastapi import FastAPI, Request, Response

from service import farewell
from service.serve import configuration
from service.settings import Settings


def application(answer: bytes) -> FastAPI:
    """One route."""
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.post("/v1/encoders/{ref}/embed")
    async def embed(request: Request, ref: str) -> Response:
        del ref
        await request.body()
        return Response(answer, media_type="application/json")

    return app


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    config = configuration(settings)
    config.app = application(Path(sys.argv[2]).read_bytes())
    farewell.Server(config, grace_s=1.0).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
