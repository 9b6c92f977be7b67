"""Around every request: its id, the headers of its answer, its time, and the last net for mistakes. Pure ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, problems
from service.problems import REQUEST_ID
from service.refusals import ServingUnavailable
from service.tracing import NO_SPAN, Span, Tracer

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
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
CHANGED = frozenset({201, 202, 204})
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
LINGER_S = 1.0
AGAIN_S = 5
"""Until a server that stopped has a successor."""

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Counts requests."""

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None: ...


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, observer: Observer, tracer: Tracer) -> None:
        self.app = app
        self.observer = observer
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        with logs.bound(request_id=exchange.request_id), self._timed(scope) as span:
            await self._answer(exchange, scope, receive)
            route = route_of(scope)
            span.set(
                f"{scope['method']} {route}",
                {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": exchange.status,
                    "request_id": exchange.request_id,
                },
            )
            if exchange.status >= 500:
                span.fail("the server is at fault")

    def _timed(self, scope: Scope) -> contextlib.AbstractContextManager[Span]:
        if not self.tracer.on or scope["path"] in UNTRACED:
            return contextlib.nullcontext(NO_SPAN)
        parent = Headers(scope=scope).get("traceparent")
        return self.tracer.span(scope["method"], parent=parent, kind="server")

    async def _answer(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:  # nobody but a server that stops cancels a request
            if not exchange.status:
                await _come_again(exchange, receive)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise
            await problems.internal(exchange.request_id)(scope, receive, exchange.send)
        finally:
            self._note(exchange, scope)

    def _note(self, exchange: _Exchange, scope: Scope) -> None:
        """Count the request; log those that changed something or failed by the server's fault, at debug all."""
        seconds = time.perf_counter() - exchange.started
        route, status = route_of(scope), exchange.status
        self.observer.observe(method=scope["method"], route=route, status=status, seconds=seconds)
        level = logging.INFO if status in CHANGED or status >= 500 else logging.DEBUG
        if logger.isEnabledFor(level):
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1e3, 1),
            }
            logger.log(level, "%s %s", scope["method"], scope["path"], extra={"fields": fields})


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
            headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
            given = {name for name, _ in headers}
            headers += [pair for pair in _SECURITY if pair[0] not in given]
            headers.append((b"x-request-id", self.request_id.encode()))
            message["headers"] = headers
        await self._send(message)


async def _come_again(exchange: _Exchange, receive: Receive) -> None:
    """503. What the client still sends is read for a moment, else it would see a reset connection and no answer."""
    error = ServingUnavailable("The server is stopping; send the request again.", retry_after_s=AGAIN_S)
    answer = problems.response(error, exchange.request_id)
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    await exchange.send(start)
    await exchange.send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive())["type"] != "http.disconnect":
                continue
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


def request_id_of(scope: Scope) -> str:
    """The client's X-Request-Id if it is harmless, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """An id of our own."""
    return f"req_{random.getrandbits(96):024x}"


def route_of(scope: dict[str, Any] | Scope) -> str:
    """The template of the route that answered, so that names in a path do not become labels."""
    template = getattr(scope.get("route"), "path_format", None)
    return template if isinstance(template, str) else "other"
