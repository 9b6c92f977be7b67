"""Every route of the application, HEAD, streams and mounts included: who may not use it, and with what headers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.auth import authorize
from service.middleware import SECURITY_HEADERS
from service.routes.common import guarded
from service.settings import Settings

PUBLIC = {"/healthz", "/readyz", "/", "/docs", "/openapi.json", "/static"}
"""As the contract has them; a new one is a decision and is written here."""
SECRET = "nk_" + secrets.token_urlsafe(32)
SCOPES = ("read", "train", "embed", "admin")


@pytest.fixture(scope="module")
def locked(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_server(tmp_path_factory.mktemp("walked"), bootstrap_key=SECRET) as server:
        yield server


@pytest.fixture(scope="module")
def scoped(locked: Any) -> dict[str, str]:
    """Scope -> the secret of a key that has this scope alone."""
    made = {}
    for scope in SCOPES:
        body = {"name": scope, "scopes": [scope]}
        made[scope] = locked.client.post("/v1/keys", json=body, headers=bearer(SECRET)).json()["key"]
    return made


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def walk(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """(method, path, route) of everything that can be reached; HEAD wherever GET is."""
    for route in iter_route_contexts(app.routes):
        path = (route.path or "").replace("{", "").replace("}", "")
        methods = set(route.methods or {"GET"})
        for method in sorted(methods | ({"HEAD"} if "GET" in methods else set())):
            yield method, path, route


def depends_on_authorize(route: Any) -> bool:
    """Whether the check of keys is among the dependencies of the route itself."""
    dependant = getattr(route, "dependant", None)
    return any(dependency.call is authorize for dependency in getattr(dependant, "dependencies", ()))


def unguarded(app: FastAPI) -> set[str]:
    """Paths that are not public and do not ask for a key."""
    return {path for _, path, route in walk(app) if path not in PUBLIC and not depends_on_authorize(route)}


def test_no_route_goes_unguarded_unless_it_is_public() -> None:
    app = create_app(Settings())
    assert unguarded(app) == set()
    assert {path for _, path, _ in walk(app)} >= PUBLIC


def test_a_new_route_without_the_check_is_found() -> None:
    app = create_app(Settings())

    async def open_door() -> None: ...

    async def socket(websocket: WebSocket) -> None: ...

    app.add_api_route("/v1/forgotten", open_door)
    app.mount("/v1/mounted", FastAPI())
    app.add_api_websocket_route("/v1/socket", socket)
    nested = APIRouter(prefix="/v1/nested")
    nested.add_api_route("/door", open_door)
    app.include_router(nested)
    safe = guarded("/v1/safe", "tests")
    safe.add_api_route("/door", open_door)
    app.include_router(safe)
    found = unguarded(app)
    assert {"/v1/forgotten", "/v1/mounted", "/v1/socket", "/v1/nested/door"} <= found
    assert "/v1/safe/door" not in found


def check_headers(answer: httpx.Response) -> None:
    for name in SECURITY_HEADERS:
        assert answer.headers.get(name), (answer.request.method, answer.request.url, name)
    assert answer.headers["x-request-id"]
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "server" not in answer.headers


def test_every_route_answers_401_without_a_key_or_with_a_bad_one(locked: Any, is_problem: Any) -> None:
    bad = (
        ({}, "no_key"),
        ({"authorization": "Basic YTpi"}, "no_key"),
        ({"authorization": "Bearer"}, "no_key"),
        (bearer("x"), "bad_key"),
        (bearer("nk_" + "x" * 43), "bad_key"),
        (bearer(SECRET[:-1] + ("A" if SECRET[-1] != "A" else "B")), "bad_key"),
        (bearer(SECRET[:11]), "bad_key"),
    )
    walked = [(method, path) for method, path, _ in walk(create_app(Settings())) if path not in PUBLIC]
    assert len(walked) > 40
    for method, path in walked:
        for headers, code in bad:
            answer = locked.client.request(method, path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
            check_headers(answer)
            if method == "HEAD":
                assert answer.content == b""
            else:
                is_problem(answer, 401, code)


def test_a_key_in_the_query_or_in_a_cookie_is_none(locked: Any, is_problem: Any) -> None:
    for name in ("key", "api_key", "token", "access_token", "authorization"):
        is_problem(locked.client.get("/v1/jobs", params={name: SECRET}), 401, "no_key")
        is_problem(locked.client.get("/v1/jobs", headers={"cookie": f"{name}={SECRET}"}), 401, "no_key")
    is_problem(locked.client.get("/v1/jobs", headers={"x-api-key": SECRET}), 401, "no_key")


def test_every_route_answers_403_to_a_key_of_another_scope(
    locked: Any, scoped: dict[str, str], is_problem: Any
) -> None:
    refused = 0
    for method, path, route in walk(create_app(Settings())):
        if path in PUBLIC:
            continue
        needed = route.endpoint.needed_scope
        for scope in ("read", "train", "embed"):
            answer = locked.client.request(method, path, headers=bearer(scoped[scope]))
            check_headers(answer)
            if scope == needed:
                assert answer.status_code not in (401, 403), (method, path)
                continue
            refused += 1
            assert answer.status_code == 403, (method, path, scope)
            if method != "HEAD":
                is_problem(answer, 403, "scope_missing")
    assert refused > 80


def test_public_pages_need_no_key_and_have_the_headers(locked: Any) -> None:
    for path in sorted(PUBLIC - {"/static"} | {"/static/docs.js"}):
        for method in ("GET", "HEAD"):
            answer = locked.client.request(method, path)
            assert answer.status_code == 200, path
            check_headers(answer)


def test_errors_streams_and_files_have_the_headers(locked: Any, add_encoder: Any) -> None:
    key = bearer(SECRET)
    add_encoder(locked, "walked")
    job = locked.client.post("/v1/jobs", json={"spec": {"dataset": "digits"}, "encoder": "x"}, headers=key)
    events = f"/v1/jobs/{job.json()['id']}/events"
    check_headers(job)
    for method, path, status in (
        ("GET", "/v1/encoders/walked/files/model.safetensors", 200),
        ("GET", "/v1/encoders/walked/report", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/jobs", 405),
        ("OPTIONS", "/v1/jobs", 405),
        ("POST", "/v1/jobs", 422),
        ("GET", "/static/nothing", 404),
    ):
        answer = locked.client.request(method, path, headers=key)
        assert answer.status_code == status, path
        check_headers(answer)
    with locked.client.stream("GET", events, headers=key) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        check_headers(stream)


def test_a_mistake_of_the_server_has_the_headers_and_gives_nothing_away(is_problem: Any) -> None:
    app = create_app(Settings())

    async def mistaken() -> None:
        raise RuntimeError("a secret detail")

    app.add_api_route("/mistaken", mistaken)

    async def ask(method: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, "/mistaken")

    answer = asyncio.run(ask("GET"))
    is_problem(answer, 500, "internal_error")
    assert "secret detail" not in answer.text
    for mistake in (answer, asyncio.run(ask("HEAD"))):
        assert mistake.status_code == 500
        check_headers(mistake)


def test_head_is_get_without_its_body(locked: Any, add_encoder: Any) -> None:
    key = bearer(SECRET)
    add_encoder(locked, "headed")
    job = locked.client.post("/v1/jobs", json={"spec": {"dataset": "digits"}, "encoder": "x"}, headers=key)
    changing = {"x-request-id", "date"}
    for path in (
        *("/v1/jobs", f"/v1/jobs/{job.json()['id']}", "/v1/encoders/headed", "/v1/encoders/headed/files"),
        *("/v1/encoders/headed/files/config.json", "/v1/encoders/headed/report", "/v1/encoders/none"),
        *("/v1/datasets/digits", "/openapi.json", "/", "/static/docs.js", "/nothing", "/healthz", "/readyz"),
    ):
        got = locked.client.get(path, headers=key)
        head = locked.client.head(path, headers=key)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers.keys() == got.headers.keys(), path
        for name in got.headers.keys() - changing:
            if not (name == "content-length" and path in ("/readyz", "/v1/encoders/none", "/nothing")):
                assert head.headers[name] == got.headers[name], (path, name)
    endless = locked.client.head(f"/v1/jobs/{job.json()['id']}/events", headers=key, timeout=10)
    assert endless.headers["content-type"].startswith("text/event-stream")
    refused = locked.client.head("/v1/embeddings", headers=key)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    text = locked.client.get("/metrics", headers=key).text
    assert 'nidim_requests_total{method="HEAD",route="/v1/jobs/{job_id}",status="200"}' in text
