"""Health, metrics, pages, headers, the description of it all, and errors of the framework."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from service import answers
from service.app import create_app
from service.routes.operations import WEB
from service.settings import Settings
from service.store.encoders import Encoder

SVG = "http://www.w3.org/2000/svg"
"""A name, which nobody fetches."""
OPTIONAL = {"skipped", "progress", "error", "created_by", "created_at"}
"""Of a dataset: a built-in has none of them."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_alive_and_ready_with_a_dead_broker(api: httpx.Client) -> None:
    assert api.get("/healthz").json()["status"] == "ok"
    ready = api.get("/readyz")
    assert ready.status_code == 200
    assert "broker" in ready.json()["degraded"]
    for path in ("/healthz", "/readyz"):
        probe = api.head(path)
        assert (probe.status_code, probe.content) == (200, b"")


def test_metrics_count_by_route_not_by_name(api: httpx.Client) -> None:
    api.get("/v1/encoders/some-name-that-nobody-has")
    text = api.get("/metrics").text
    assert 'nidim_requests_total{method="GET",route="/v1/encoders/{ref}",status="404"}' in text
    assert "some-name" not in text
    assert 'nidim_jobs{state="queued"}' in text


def test_pages_need_nothing_from_elsewhere(api: httpx.Client) -> None:
    for path in ("/", "/docs"):
        page = api.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        links = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page.text)
        assert links
        for link in links:
            assert link.startswith("/")
            assert api.get(link).status_code == 200


def test_scripts_need_nothing_from_elsewhere(api: httpx.Client) -> None:
    scripts = [path.relative_to(WEB) for path in WEB.rglob("*.js")]
    assert len(scripts) > 20
    for script in scripts:
        answer = api.get(f"/static/{script}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
        assert set(re.findall(r"\w+://[^\"'`]*", answer.text)) <= {SVG}, script
        for module in re.findall(r'from "([^"]+)"', answer.text):
            assert module.startswith("/static/"), script
            assert (WEB / module.removeprefix("/static/")).is_file(), script


def test_errors_of_the_framework_have_our_format(api: httpx.Client, is_problem: Any) -> None:
    is_problem(api.get("/nothing"), 404, "not_found")
    is_problem(api.get("/v1/jobs/"), 404, "not_found")
    is_problem(api.get("/static/nothing.js"), 404, "not_found")
    is_problem(api.get("/static/%2e%2e/app.py"), 404, "not_found")
    is_problem(api.get("/v1"), 404, "not_found")
    is_problem(api.get("/v1//jobs"), 404, "not_found")
    wrong = api.put("/v1/datasets/digits")
    is_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "DELETE, GET, HEAD"
    assert api.options("/v1/jobs/check").headers["allow"] == "POST", "a path of its own, not that of a job"
    is_problem(api.delete("/healthz"), 405, "method_not_allowed")
    is_problem(api.post("/"), 405, "method_not_allowed")
    is_problem(api.request("PROPFIND", "/v1/jobs"), 405, "method_not_allowed")


def test_request_ids_are_echoed_if_harmless(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"X-Request-Id": "a-1.b"}).headers["x-request-id"] == "a-1.b"
    for bad in ("a b", "x" * 200, "<script>"):
        assert api.get("/healthz", headers={"X-Request-Id": bad}).headers["x-request-id"] != bad
    problem = api.get("/nothing", headers={"X-Request-Id": "mine"})
    assert problem.json()["request_id"] == problem.headers["x-request-id"] == "mine"


def test_security_headers_and_no_cors(api: httpx.Client) -> None:
    answer = api.get("/v1/jobs")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON schema below ``node``."""
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node
        for value in node.values():
            yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def unbounded(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Strings, arrays and numbers without bounds."""
    bad = []
    for schema in schemas(document):
        kind = schema["type"]
        fixed = "enum" in schema or "const" in schema or schema.get("format") in ("date-time", "binary")
        numeric = kind in ("integer", "number")
        lacks = (
            (kind == "string" and not fixed and "maxLength" not in schema)
            or (kind == "array" and "maxItems" not in schema)
            or (numeric and not fixed and not {"maximum", "exclusiveMaximum"} & schema.keys())
            or (numeric and not fixed and not {"minimum", "exclusiveMinimum"} & schema.keys())
        )
        if lacks:
            bad.append(schema)
    return bad


def test_everything_in_the_description_is_bounded(document: dict[str, Any]) -> None:
    assert unbounded(document) == []


def test_the_check_of_bounds_can_fail() -> None:
    assert len(unbounded({"a": [{"type": "string"}, {"type": "integer", "minimum": 0}]})) == 2


def test_the_description_names_every_error_as_a_problem(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
            if path.startswith("/v1"):
                assert {"401", "403"} <= operation["responses"].keys()
                assert operation["description"]
    assert "HTTPValidationError" not in str(document)


def test_the_description_is_valid_and_whole(document: dict[str, Any]) -> None:
    from openapi_spec_validator import validate

    validate(document)
    assert "multipart/form-data" in document["paths"]["/v1/datasets"]["post"]["requestBody"]["content"]
    assert (
        "application/x-npy" in document["paths"]["/v1/encoders/{ref}/embed"]["post"]["requestBody"]["content"]
    )
    job = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert job == {"$ref": "#/components/schemas/JobIn"}
    assert not [key for key in str(document).split("'") if key.startswith("x-") and key.endswith("-body")]


def test_every_route_says_what_it_needs() -> None:
    for route in iter_route_contexts(create_app(Settings()).routes):
        if (route.path or "").startswith("/v1"):
            assert getattr(route.endpoint, "needed_scope", None) in ("read", "train", "embed", "admin")


def test_making_the_application_touches_nothing(tmp_path: Any) -> None:
    create_app(Settings(data_dir=tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()
    assert "service.app" in sys.modules


def test_answers_are_what_the_description_says(api: httpx.Client, encoder: Any) -> None:
    job = {"spec": {"dataset": "digits"}, "encoder": "x"}
    job_id = api.post("/v1/jobs", json=job).json()["id"]
    accept = {"accept": "application/json"}
    for model, answer in (
        (answers.JobOut, api.get(f"/v1/jobs/{job_id}")),
        (answers.ListOut[answers.JobOut], api.get("/v1/jobs")),
        (answers.ListOut[answers.EventOut], api.get(f"/v1/jobs/{job_id}/events", headers=accept)),
        (answers.DatasetOut, api.get("/v1/datasets/digits")),
        (answers.ListOut[answers.DatasetOut], api.get("/v1/datasets")),
        (answers.EncoderOut, api.get(f"/v1/encoders/{encoder.id}")),
        (answers.ListOut[answers.FileOut], api.get(f"/v1/encoders/{encoder.id}/files")),
        (answers.SamplesOut, api.post(f"/v1/encoders/{encoder.id}/prior/sample", json={"n": 2})),
        (answers.HealthOut, api.get("/healthz")),
        (answers.ReadyOut, api.get("/readyz")),
        (answers.Problem, api.get("/nothing")),
        (answers.Problem, api.post("/v1/jobs", json={})),
    ):
        model.model_validate_json(answer.content)
        assert set(answer.json()) >= set(model.model_fields) - {"errors"} - OPTIONAL


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/jobs", "/v1/datasets", "/v1/datasets/digits", "/v1/keys", "/v1/encoders", "/v1/generators"),
        *("/v1/encoders/gauss", "/v1/encoders/gauss/files"),
    ],
)
def test_json_routes_refuse_what_cannot_be_json(
    api: httpx.Client, encoder: Encoder, is_problem: Any, path: str
) -> None:
    is_problem(api.get(path, headers={"accept": "text/csv"}), 406, "not_acceptable")
    for wanted in ("application/json", "*/*", "application/*;q=0.5, text/html"):
        assert api.get(path, headers={"accept": wanted}).status_code == 200


def test_a_delete_answers_nothing_and_so_accepts_every_wish(api: httpx.Client, is_problem: Any) -> None:
    for path in ("/v1/datasets/none", "/v1/encoders/none@1", "/v1/encoders/none/aliases/a", "/v1/keys/key_0"):
        is_problem(api.delete(path, headers={"accept": "text/csv"}), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("get", "/v1/encoders/{ref}/report", "application/json"),
        ("get", "/v1/encoders/{ref}/report", "text/html"),
        ("get", "/v1/encoders/{ref}/report", "text/csv"),
        ("get", "/metrics", "text/plain"),
        ("get", "/v1/datasets/{name}/images", "image/png"),
        ("post", "/v1/embeddings", "text/csv"),
        ("delete", "/v1/datasets/{name}", "text/csv"),
    ],
)
def test_statuses_and_media_types_of_answers_are_in_the_description(
    api: httpx.Client, document: dict[str, Any], encoder: Encoder, method: str, path: str, wanted: str
) -> None:
    url = path.format(ref=encoder.id, name="digits")
    answer = api.request(method, url, headers={"accept": wanted})
    told = document["paths"][path][method]["responses"][str(answer.status_code)]
    assert answer.headers["content-type"].partition(";")[0] in told["content"]


def test_no_list_is_said_to_conflict(document: dict[str, Any]) -> None:
    for path in ("/v1/jobs", "/v1/datasets", "/v1/keys"):
        assert "409" not in document["paths"][path]["get"]["responses"]
        assert "409" in document["paths"][path]["post"]["responses"]
