"""HEAD wherever GET exists: the same status and headers, no body (RFC 9110).

One place for all routes: the application answers a GET, and the body is left out here. What would be costly or
endless is cut off: a stream ends at its first piece, and a route may ask :func:`is_head`.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD = "nidim.head"
"""Where in the ASGI scope stands that only the headers will be sent."""
LEARNED = ("route", "endpoint", "path_params")


def is_head(request: Request) -> bool:
    """Whether the body of the answer will not be sent."""
    return bool(request.scope.get(HEAD, False))


class Heads:
    """Answers HEAD with the headers of GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        inner: dict[str, Any] = {**scope, "method": "GET", HEAD: True}
        try:
            await self.app(inner, receive, _Headers(send).send)
        except _Answered:
            return
        finally:
            scope.update({name: inner[name] for name in LEARNED if name in inner})


class _Answered(ClientDisconnect):
    """The headers are out; there is nobody for what follows."""


class _Headers:
    """Passes the start of an answer on and ends it there."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif message.get("more_body", False):
            raise _Answered
