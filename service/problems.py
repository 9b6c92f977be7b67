"""Every error as RFC 9457 ``application/problem+json``, the framework's own included."""

from __future__ import annotations

import http
import logging
import math
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFound, ServiceError
from service.refusals import Blame, InternalError, InvalidBody, StoreUnavailable, with_status

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "nidim.request_id"
"""Where the request id stands in the ASGI scope."""

CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
DATABASE_DOWN = (OperationalError, InterfaceError, PoolTimeout)
OPENAI = "/v1/embeddings"
"""Its clients show what stands under ``message``, and nothing else of an error."""
NO_SUCH_TABLE = "42P01"
"""PostgreSQL's word for a database that came back empty; SQLite's is an OperationalError."""
DETAILS = {
    404: "There is nothing at this path; /openapi.json lists what there is.",
    405: "This path does not take this method; Allow lists those that it takes.",
}

logger = logging.getLogger(__name__)


def problem(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The body of the answer."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id,
    }
    errors = [blame.as_dict() for blame in getattr(error, "errors", ())]
    if error.pointer is not None:
        errors.insert(0, Blame(error.pointer, str(error)).as_dict())
    return {**body, "errors": errors} if errors else body


def headers(error: ServiceError) -> dict[str, str]:
    """What belongs to the answer besides the headers of its body."""
    found = dict(getattr(error, "headers", {}))
    if error.status in (429, 503) or error.retry_after_s is not None:
        found.setdefault("Retry-After", str(max(1, math.ceil(error.retry_after_s or 1))))
    if error.status == 401:
        found.setdefault("WWW-Authenticate", "Bearer")
    return found


def response(error: ServiceError, request_id: str, *, path: str = "") -> Response:
    """The whole answer to a request for ``path``: body, status and the headers that belong to it."""
    found = problem(error, request_id)
    if path == OPENAI:
        places = (f"{item['pointer']}: {item['detail']}" for item in found.get("errors", [])[:3])
        found["message"] = " ".join([found["detail"], *places])
    return Response(orjson.dumps(found), error.status, headers=headers(error), media_type=MEDIA_TYPE)


def answer(request: Request, error: ServiceError) -> Response:
    """The answer to ``request``."""
    if error.status >= 500:
        expected = error.status == 503  # whoever found out has said more
        logger.error("%s: %s", error.code, error, exc_info=None if expected else error)
    return response(error, request.scope.get(REQUEST_ID, ""), path=request.scope["path"])


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error in this format."""

    async def service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return answer(request, error)

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, _framework_error(app, request, error))

    async def invalid_parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if any(item["loc"][0] == "path" for item in error.errors()):
            return answer(request, NotFound())
        return answer(request, InvalidBody(errors=[_parameter(item) for item in error.errors()]))

    async def database_error(request: Request, error: Exception) -> Response:
        logger.error("the database does not answer: %s", getattr(error, "orig", None) or error)
        return response(StoreUnavailable(), request.scope.get(REQUEST_ID, ""))

    async def lacking_table(request: Request, error: Exception) -> Response:
        if getattr(getattr(error, "orig", None), "sqlstate", None) != NO_SUCH_TABLE:
            raise error
        logger.error("the database has lost its tables: restore a backup, or check its URL")
        return response(StoreUnavailable(), request.scope.get(REQUEST_ID, ""))

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(ProgrammingError, lacking_table)
    for kind in DATABASE_DOWN:
        app.add_exception_handler(kind, database_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, invalid_parameters)


def internal(request_id: str) -> Response:
    """The answer where nothing else is known."""
    return response(InternalError(), request_id)


def _framework_error(app: FastAPI, request: Request, error: HTTPException) -> ServiceError:
    status, headers = error.status_code, dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(sorted(_allowed(app, request))) or headers.get("Allow", "GET")
    code = CODES.get(status, http.HTTPStatus(status).phrase.lower().replace(" ", "_"))
    detail = DETAILS.get(status, http.HTTPStatus(status).description or http.HTTPStatus(status).phrase)
    return with_status(status, code, detail, headers=headers)


def _allowed(app: FastAPI, request: Request) -> set[str]:
    """Every method that the path of ``request`` takes, over all routes that share it.

    A route that is this very path is not what another one has room for: /v1/jobs/check is no job.
    """
    path = request.scope["path"]
    shared, own = set[str](), set[str]()
    for route in iter_route_contexts(app.routes):
        regex = getattr(route, "path_regex", None)
        if regex is not None and regex.match(path):
            shared |= route.methods or set()
            own |= (route.methods or set()) if route.path == path else set()
    methods = own or shared
    return methods | ({"HEAD"} if "GET" in methods else set())


def _parameter(item: dict[str, Any]) -> Blame:
    """pydantic's error for a query, path or header parameter."""
    loc = item["loc"]
    return Blame("", item["msg"], parameter=str(loc[1]) if len(loc) > 1 else str(loc[0]))
