"""Around every request: its id, the headers of its answer, its time, and the last net for mistakes. Pure ASGI."""

from __future__ import annotations

import logging
import random
import re
import time
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.problems import REQUEST_ID

_GOOD_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Set where the answer does not set them itself."""

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Counts requests."""

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None: ...


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, observer: Observer) -> None:
        self.app = app
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            pass
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise
            await problems.internal(exchange.request_id)(scope, receive, exchange.send)
        finally:
            self.observer.observe(
                method=scope["method"],
                route=route_of(scope),
                status=exchange.status,
                seconds=time.perf_counter() - exchange.started,
            )


class _Exchange:
    """One request and its answer on the way out."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started = time.perf_counter()
        self.status = 0
        self.request_id = request_id_of(scope)
        scope[REQUEST_ID] = self.request_id
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.request_id
        await self._send(message)


def request_id_of(scope: Scope) -> str:
    """The client's X-Request-Id if it is harmless, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else f"req_{random.getrandbits(96):024x}"


def route_of(scope: dict[str, Any] | Scope) -> str:
    """The template of the route that answered, so that names in a path do not become labels."""
    template = getattr(scope.get("route"), "path_format", None)
    return template if isinstance(template, str) else "other"
