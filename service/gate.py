"""No more embeddings at work than are answered soon; whoever comes beyond is told at once to come again. Pure ASGI.

The queues behind are bounded by what waits for an encoder. What waits for the event loop is in none of them: under
twice the load that it can bear, a server that takes everything in answers clients that have given up. A refusal here
costs a small part of an answer, so the rest of the time goes into answers that somebody still waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.problems import REQUEST_ID
from service.refusals import Overloaded


class Gate:
    """Lets ``most`` requests for ``routes``, those that embed, be at work at a time.

    While it waits for its body a request is not at work: slow senders take no place.
    """

    def __init__(self, app: ASGIApp, *, most: int, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._most, self._at_work, self._routes = most, 0, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope)
        if route is None:
            await self.app(scope, receive, send)
        elif self._at_work < self._most:
            await self._count(scope, receive, send)
        else:
            scope["route"] = route  # it is counted there
            error = Overloaded(
                "As many requests for embeddings as may be are at work; try again.", retry_after_s=1
            )
            await problems.response(error, scope.get(REQUEST_ID, ""))(scope, receive, send)

    def _route(self, scope: Scope) -> BaseRoute | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        return next((route for route in self._routes if route.matches(scope)[0] is Match.FULL), None)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = False

        async def patient() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            self._at_work -= 1
            try:
                message = await receive()
            finally:
                self._at_work += 1
            whole = not message.get("more_body", False)
            return message

        self._at_work += 1
        try:
            await self.app(scope, patient, send)
        finally:
            self._at_work -= 1
