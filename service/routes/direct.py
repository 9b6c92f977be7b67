"""A route that FastAPI describes and does not prepare: for where a fifth of a millisecond counts.

FastAPI solves the dependencies of a request one by one and reads its parameters field by field, which takes as long as
all that an embedding does besides the network. A :class:`DirectRoute` is in the OpenAPI description like any other;
when it is asked, it checks the key, reads the query into the one model that its endpoint takes, and calls it. It has no
dependencies that would have to be closed, and its errors are answered where all are, around the router.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.auth import authorize


class DirectRoute(APIRoute):
    """For endpoints ``(request, ref, query)`` that answer with a Response; ``ref`` is looked up, hence not checked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        answer = self.get_route_handler()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await answer(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request. Raises what ``authorize`` and the endpoint raise, and RequestValidationError."""
        endpoint = self.endpoint
        (model,) = typing.get_args(typing.get_type_hints(endpoint, include_extras=True)["query"])[:1]

        async def answer(request: Request) -> Response:
            await authorize(request)
            query = _query(model, request)
            found: Response = await endpoint(request, request.path_params["ref"], query)
            return found

        return answer


def _query(model: type[BaseModel], request: Request) -> BaseModel:
    if not request.scope["query_string"]:
        return model()
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        raise RequestValidationError([{**item, "loc": ("query", *item["loc"])} for item in wrong]) from None
