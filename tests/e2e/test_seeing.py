"""One request id through API, queue, worker and training child: in the log, in the trace, in the figures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.blocks import session, shell

pytestmark = pytest.mark.slow

SECRET = "nk_" + "watch-the-logs-for-me-0123456789abcdef"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TINY = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 2, "width": 4},
    "epochs": 1,
    "evaluation": "quick",
}


@dataclass
class Collector:
    """A loopback OTLP receiver: HTTP and real protobuf."""

    url: str
    spans: list[dict[str, Any]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        {
                            "service": about["service.name"],
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "s": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                            "attributes": {a.key: a.value for a in span.attributes},
                        }
                    )

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            found.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@dataclass
class Seen:
    """What one small run left."""

    job: dict[str, Any]
    events: list[dict[str, Any]]
    metrics: dict[Any, float]
    lines: list[dict[str, Any]]
    text: str
    spans: Collector

    def said(self, **fields: Any) -> list[dict[str, Any]]:
        return [line for line in self.lines if all(line.get(key) == value for key, value in fields.items())]


@pytest.fixture(scope="module")
def seen(
    collector: Collector, start_stack: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    """A stack that says all it can: a job under the request id ``abc`` in a trace from elsewhere, an embedding."""
    with pytest.MonkeyPatch.context() as env:
        for name, value in {
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "debug",
            "OTLP_ENDPOINT": collector.url,
            "BOOTSTRAP_KEY": SECRET,
            "KEY_PEPPER": "pepper-that-nobody-may-read-012345",
        }.items():
            env.setenv(f"NIDIM_{name}", value)
        env.setenv("NO_PROXY", "127.0.0.1")
        directory = tmp_path_factory.mktemp("seeing") / "data"
        with start_stack(directory, "--workers", "1") as (url, _):
            found = _use(url)
    log = directory.with_suffix(".log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    return Seen(**found, lines=lines, text=log, spans=collector)


def _use(url: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {SECRET}"}
    traced = {"x-request-id": "abc", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with httpx.Client(base_url=url, timeout=120, trust_env=False, headers=headers) as client:
        answer = client.post("/v1/jobs", json={"spec": TINY, "encoder": "watched"}, headers=traced)
        assert answer.status_code == 202, answer.text
        path = answer.headers["location"]
        deadline = time.monotonic() + 240
        while (job := client.get(path).json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, job
            time.sleep(0.2)
        assert job["state"] == "succeeded", job
        events = client.get(f"{path}/events", headers={"accept": "application/json"}).json()["items"]
        images = _npy(np.zeros((3, 8, 8), np.uint8))
        kind = {"content-type": "application/x-npy", "x-request-id": "embed-1"}
        assert client.post("/v1/encoders/watched/embed", content=images, headers=kind).status_code == 200
        assert client.get("/v1/keys", headers={"authorization": f"Bearer {SECRET}x"}).status_code == 401
        text = client.get("/metrics").text
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return {"job": job, "events": events, "metrics": metrics}


def _npy(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def test_every_line_is_json_and_says_who_wrote_it(seen: Seen) -> None:
    assert {line["part"] for line in seen.lines} == {"up", "api", "worker", "child"}
    for line in seen.lines:
        assert {"at", "level", "logger", "message", "pid", "part"} <= line.keys()
    libraries = {line["logger"].partition(".")[0] for line in seen.lines}
    assert {"uvicorn", "celery"} <= libraries


def test_one_request_id_joins_api_worker_and_child(seen: Seen) -> None:
    assert {line["part"] for line in seen.said(request_id="abc")} == {"api", "worker", "child"}
    (submitted,) = seen.said(request_id="abc", part="api", route="/v1/jobs")
    assert (submitted["method"], submitted["status"], submitted["level"]) == ("POST", 202, "info")
    for part in ("worker", "child"):
        for line in seen.said(request_id="abc", part=part):
            assert (line["job_id"], line["attempt"]) == (seen.job["id"], 1)
            assert line["worker"].startswith("slot0@")
    phases = [line["message"] for line in seen.said(part="child", logger="worker.child")]
    assert [name for name in phases if name in ("dataset", "training", "storing")] == [
        "dataset",
        "training",
        "storing",
    ]
    child, worker = seen.said(part="child")[0], seen.said(part="worker")[0]
    assert len({child["pid"], worker["pid"], submitted["pid"]}) == 3


def test_the_command_of_the_documentation_follows_the_request(seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "nidim.log").write_text(seen.text)
    done = shell(session("docs/operations.md", "follow-session"), tmp_path)
    assert done.returncode == 0, done.stderr
    parts = [line.split()[-1] for line in done.stdout.splitlines()]
    assert parts == ['"api"', '"child"', '"worker"']


def test_the_job_remembers_its_request_and_nothing_secret(seen: Seen) -> None:
    first = seen.events[0]["data"]
    assert first["request_id"] == "abc"
    assert first["traceparent"].split("-")[1] == TRACE
    for text in (seen.text, json.dumps(seen.events), json.dumps(seen.job)):
        assert "watch-the-logs-for-me" not in text
        assert "pepper-that-nobody" not in text


def test_the_trace_goes_from_the_client_to_the_phases_of_the_child(seen: Seen) -> None:
    (request,) = seen.spans.named("POST /v1/jobs")
    assert (request["trace"], request["parent"], request["service"]) == (TRACE, PARENT, "nidim-api")
    (publish,) = seen.spans.named("publish")
    assert publish["parent"] == request["id"]
    (attempt,) = seen.spans.named("attempt")
    assert (attempt["trace"], attempt["parent"]) == (TRACE, request["id"])
    assert attempt["service"] == "nidim-worker"
    assert attempt["attributes"]["outcome"].string_value == "succeeded"
    inside = [span for span in seen.spans.spans if span["parent"] == attempt["id"]]
    names = [span["name"] for span in inside]
    phases = ["starting", "dataset", "training", "embedding", "evaluating", "storing"]
    assert names == ["prepare", *phases, "store"]
    assert sum(span["s"] for span in inside) <= attempt["s"] + 0.1


def test_an_embedding_is_decode_queue_forward(seen: Seen) -> None:
    (request,) = seen.spans.named("POST /v1/encoders/{ref}/embed")
    assert request["attributes"]["request_id"].string_value == "embed-1"
    inside = [span for span in seen.spans.spans if span["parent"] == request["id"]]
    assert {span["name"] for span in inside} == {"decode", "queue", "forward"}
    assert sum(span["s"] for span in inside) <= request["s"] + 0.1
    assert {line["trace_id"] for line in seen.said(request_id="embed-1")} == {request["trace"]}


def test_probes_are_not_traced(seen: Seen) -> None:
    assert not [span for span in seen.spans.spans if "readyz" in span["name"] or "metrics" in span["name"]]


def test_the_attempt_is_counted(seen: Seen) -> None:
    assert seen.metrics["nidim_attempts_started_total",] == 1
    assert seen.metrics["nidim_attempts_ended_total", "succeeded"] == 1
    assert seen.metrics["nidim_jobs", "succeeded"] == 1
    assert seen.metrics["nidim_lease_losses_total",] == 0
    assert seen.metrics["nidim_broker_up",] == 1
