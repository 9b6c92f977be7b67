"""No more embeddings at work than are answered soon; whoever comes beyond is told at once to come again.

The queues behind are bounded by what waits for an encoder. What waits for the event loop is in none of them: under
twice the load that it can bear, a server that takes everything in answers clients that have given up. A refusal costs
a small part of an answer, so the rest of the time goes into answers that somebody still waits for. It is cheapest where
it is given first: ``service.protocol`` asks the gate when the head of a request is there, before there is a task for
it. Requests that need more than that, and whoever serves the application without that protocol, find the gate again
as a layer of the application.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.middleware import SECURITY_HEADERS, Observer, request_id_of, route_of
from service.problems import REQUEST_ID
from service.refusals import Overloaded
from service.tracing import Tracer

LATER = frozenset({b"origin", b"expect", b"upgrade"})
"""Headers whose requests other layers have a word in: those are refused by the layer, with all that belongs to it."""


class Gate:
    """Lets ``most`` requests for ``routes``, those that embed, be at work at a time. For one event loop."""

    def __init__(self, *, most: int, routes: Sequence[BaseRoute]) -> None:
        self._most = most
        self._routes = [
            route for route in routes if isinstance(route, Route) and "POST" in (route.methods or ())
        ]
        self.at_work = 0

    @property
    def full(self) -> bool:
        """Whether no more may come in."""
        return self.at_work >= self._most

    def shut(self, scope: Scope) -> Route | None:
        """The route of a request that is to be refused now; None: it may go on."""
        return self.route(scope) if self.full else None

    def route(self, scope: Scope) -> Route | None:
        """The route of a request that needs a place; None: it needs none."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path = scope["path"]
        return next((route for route in self._routes if route.path_regex.match(path)), None)


def refusal() -> Overloaded:
    """What the requests beyond are told."""
    return Overloaded("As many requests for embeddings as may be are at work; try again.", retry_after_s=1)


class Gated:
    """The application behind ``gate``. Pure ASGI.

    While it waits for its body a request is not at work: slow senders take no place.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self.app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if shut := self._gate.shut(scope):
            scope["route"] = shut  # it is counted there
            await problems.response(refusal(), scope.get(REQUEST_ID, ""))(scope, receive, send)
        elif self._gate.route(scope):
            await self._count(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = False

        async def patient() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            self._gate.at_work -= 1
            try:
                message = await receive()
            finally:
                self._gate.at_work += 1
            whole = not message.get("more_body", False)
            return message

        self._gate.at_work += 1
        try:
            await self.app(scope, patient, send)
        finally:
            self._gate.at_work -= 1


class Early:
    """Refusals before there is a request for the application: counted like the others, and with the same headers."""

    def __init__(self, gate: Gate, *, observer: Observer, tracer: Tracer) -> None:
        self._gate, self._observer, self._tracer = gate, observer, tracer
        self._headers = {**SECURITY_HEADERS, **problems.headers(refusal())}

    @property
    def strict(self) -> bool:
        """Whether anything is refused here now; what is traced goes to the application."""
        return self._gate.full and not self._tracer.on

    def refused(self, scope: Scope) -> Response | None:
        """The answer to a request of which only the head is there; None: the application's, whatever it says."""
        shut = self._gate.shut(scope)
        if shut is None or any(name in LATER for name, _ in scope["headers"]):
            return None
        request_id = request_id_of(scope)
        body = orjson.dumps(problems.problem(refusal(), request_id))
        headers = {**self._headers, "X-Request-Id": request_id}
        self._observer.observe(method="POST", route=route_of({"route": shut}), status=429, seconds=0.0)
        return Response(body, Overloaded.status, headers, problems.MEDIA_TYPE)
