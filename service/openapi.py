"""The OpenAPI document: what FastAPI finds, the bodies that the routes read themselves, and the errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nidim import __version__
from service.accept import ARROW, JSON, NPY
from service.answers import Problem
from service.forms import MULTIPART
from service.images import FIELD, RAW
from service.openapi_links import add_links
from service.problems import MEDIA_TYPE
from service.schemas import EmbeddingsIn, GenerateIn, ImagesIn, OpenAIEmbeddingsIn

REF = "#/components/schemas/{model}"
PROBLEM = {"$ref": REF.format(model="Problem")}
ERRORS = {
    "401": "No key, or a bad one",
    "403": "Forbidden by policy, or the key lacks a scope",
    "404": "There is no such thing",
    "406": "None of the accepted media types can be given",
    "408": "The body stopped arriving",
    "409": "The state does not allow it",
    "412": "It has changed since",
    "413": "Too large",
    "415": "Content-Type or Content-Encoding is not understood",
    "416": "The range starts after the end of the file",
    "422": "The request is malformed, or a value cannot be used",
    "429": "Over a limit or a queue; see Retry-After",
    "503": "The server cannot answer this now",
}
CONFLICTING = ("/jobs", "/datasets", "/keys", "/cancel", "/retry", "/rollback", "/generate", "/check")
"""Ends of the paths of which a POST may answer 409."""
BINARY = {"type": "string", "format": "binary", "maxLength": 2**53}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key with the same body gets the first answer again",
    "schema": {"type": "string", "maxLength": 255, "pattern": r"^[\x21-\x7e][\x20-\x7e]{0,254}$"},
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "respond-async: 202 at once instead of 201 when it is done",
    "schema": {"type": "string", "maxLength": 1024},
}
HEADERS = {
    **{name: [IDEMPOTENCY_KEY] for name in ("submit", "retry", "create_key")},
    "upload_dataset": [IDEMPOTENCY_KEY, PREFER],
}
"""Headers that the routes read by hand, by operation."""
DESCRIPTION = (
    "Train image encoders whose embeddings follow a distribution that you choose; embed images; draw from that "
    "distribution. Errors are RFC 9457 problem details with a stable `code`."
)


def install(app: FastAPI) -> None:
    """Make ``app.openapi()`` give the whole document."""
    app.openapi = lambda: app.openapi_schema or _remember(app)  # type: ignore[method-assign]


def _remember(app: FastAPI) -> dict[str, Any]:
    app.openapi_schema = document(app)
    return app.openapi_schema


def document(app: FastAPI) -> dict[str, Any]:
    """The document."""
    found = get_openapi(title="nidim", version=__version__, description=DESCRIPTION, routes=app.routes)
    bodies = dict(_json_bodies(app))
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(
        _schemas([*bodies.values(), Problem, ImagesIn, EmbeddingsIn, GenerateIn, OpenAIEmbeddingsIn])
    )
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _describe_body(operation, bodies.get((path, method)), path)
            _describe_answers(operation, path, method)
            _forget_nulls(operation.get("parameters", ()))
            if headers := HEADERS.get(operation.get("operationId", "")):
                operation["parameters"] = [*operation.get("parameters", ()), *headers]
    add_links(found)
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return found


def _json_bodies(app: FastAPI) -> Iterator[tuple[tuple[str, str], type[BaseModel]]]:
    """((path, method), model) of every route that reads JSON through ``bodies.json_body``."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        for dependency in getattr(dependant, "dependencies", ()):
            model = getattr(dependency.call, "body_model", None)
            if model is not None and route.path_format is not None:
                for method in route.methods or ():
                    yield (route.path_format, method.lower()), model


def _schemas(models: list[type[BaseModel]]) -> dict[str, Any]:
    unique = list(dict.fromkeys(models))
    _, document_ = models_json_schema([(model, "validation") for model in unique], ref_template=REF)
    schemas: dict[str, Any] = document_["$defs"]
    return schemas


def _describe_body(operation: dict[str, Any], model: type[BaseModel] | None, path: str) -> None:
    content: dict[str, Any] = {}
    if model is not None:
        content = {JSON: _ref(model)}
    elif operation.pop("x-openai-body", False):
        content = {JSON: _ref(OpenAIEmbeddingsIn)}
    elif operation.pop("x-upload-body", False):
        content = {MULTIPART: {"schema": _upload_form()}}
    elif operation.pop("x-images-body", False):
        content = _images_content(path)
    elif operation.pop("x-generate-body", False):
        content = {**_images_content(path), JSON: _ref(GenerateIn)}
    if content:
        operation["requestBody"] = {"required": True, "content": content}


def _images_content(path: str) -> dict[str, Any]:
    files = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": 1_000_000}
    form = {
        "type": "object",
        "properties": {FIELD: files},
        "required": [FIELD],
        "additionalProperties": False,
    }
    content: dict[str, Any] = {MULTIPART: {"schema": form}, NPY: {"schema": BINARY}, JSON: _ref(ImagesIn)}
    if path.endswith("/score"):
        content[JSON] = {"schema": {"anyOf": [_ref(model)["schema"] for model in (ImagesIn, EmbeddingsIn)]}}
    return content | {kind: {"schema": BINARY} for kind in RAW}


def _upload_form() -> dict[str, Any]:
    name = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}
    properties = {"name": name, "file": BINARY, "license": {"type": "string", "maxLength": 200}}
    return {
        "type": "object",
        "properties": properties,
        "required": ["name", "file"],
        "additionalProperties": False,
    }


def _forget_nulls(parameters: Sequence[dict[str, Any]]) -> None:
    """A header or a query parameter is text or absent, never null."""
    for parameter in parameters:
        schema = parameter["schema"]
        given = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        parameter["schema"] = {
            **schema,
            **(given[0] if len(given) == 1 else {"anyOf": given} if given else {}),
        }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": REF.format(model=model.__name__)}}


def _describe_answers(operation: dict[str, Any], path: str, method: str) -> None:
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    for status, description in _errors_of(operation, path, method):
        responses[status] = {"description": description, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
    if path not in ("/healthz", "/readyz"):
        operation["security"] = [{"key": []}]
    if path.endswith(("/embed", "/sample", "/interpolate")) and "200" in responses:
        responses["200"]["content"] |= {NPY: {"schema": BINARY}, ARROW: {"schema": BINARY}}
    if operation.get("operationId") == "upload_dataset":
        responses["202"] = {**responses["201"], "description": "Taken; see state and progress at Location"}


def _errors_of(operation: dict[str, Any], path: str, method: str) -> Iterator[tuple[str, str]]:
    if path == "/healthz":
        return
    if path == "/readyz":
        yield "503", ERRORS["503"]
        return
    has_body = "requestBody" in operation
    applies = {
        "404": "{" in path,
        "406": path.startswith("/v1") and method != "delete",
        "408": has_body,
        "409": _may_conflict(path, method),
        "412": ("/aliases/" in path and method != "get") or path.endswith("/files/{file}"),
        "413": has_body,
        "415": has_body,
        "416": path.endswith("/files/{file}"),
        "422": has_body or bool(operation.get("parameters")),
        "429": True,
        "503": True,
    }
    for status, description in ERRORS.items():
        if applies.get(status, True):
            yield status, description


def _may_conflict(path: str, method: str) -> bool:
    if method == "get":
        return path.endswith("/images")
    return method == "delete" or path.endswith(CONFLICTING)
