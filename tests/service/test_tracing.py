"""Traces: off they are nothing at all, on they keep what they promise; a dead collector delays nobody."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import logs, tracing
from service.otel import Otel

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> tracing.Tracer:
    made = tracing.Tracer()
    made._otel = Otel("", part="test", processor=SimpleSpanProcessor(exporter))
    return made


@pytest.mark.parametrize(("endpoint", "expected"), [("", False), ("http://127.0.0.1:9", True)])
def test_off_nothing_that_traces_is_imported_and_no_thread_runs(endpoint: str, expected: bool) -> None:
    """FastAPI and redis import parts of OpenTelemetry by themselves where it is installed; we do not."""
    code = (
        "import sys, threading, service.app, worker.tasks, worker.child\n"
        "from service.tracing import Tracer\nfrom service.settings import Settings\n"
        f"tracer = Tracer(); tracer.open(Settings(otlp_endpoint={endpoint!r}), part='api')\n"
        "with tracer.span('x') as span: span.set('y', {'a': 1}); tracer.past('z', start_s=0, end_s=1)\n"
        "ours = {'service.otel', 'opentelemetry.exporter.otlp.proto.http.trace_exporter'} & set(sys.modules)\n"
        "print(len(ours) == 2, bool(ours), threading.active_count() > 1); sys.stdout.flush()\n"
        "import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected)] * 3


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.otel", None)
    with pytest.raises(tracing.TracingUnavailable, match="install the extra tracing"):
        tracing.Tracer().open(SimpleNamespace(otlp_endpoint="http://127.0.0.1:1"), part="api")


def test_spans_nest_and_go_on_elsewhere(tracer: tracing.Tracer, exporter: InMemorySpanExporter) -> None:
    with logs.bound(request_id="abc"), tracer.span("request", parent=TRACEPARENT, kind="server") as span:
        carried = tracing.origin(tracer)
        trace_id = logs.present()["trace_id"]
        tracer.past("decode", start_s=100.0, end_s=100.5, images=3)
        span.set("POST /x", {"http.route": "/x", "none": None})
    request_id, parent = tracing.remembered({"state": "queued", **carried})
    with tracer.span("attempt", parent=parent, kind="consumer"):
        pass
    decode, request, attempt = exporter.get_finished_spans()
    assert (request.name, request.attributes) == ("POST /x", {"http.route": "/x"})
    assert f"{request.context.trace_id:032x}" == trace_id == TRACEPARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert decode.parent.span_id == attempt.parent.span_id == request.context.span_id
    assert decode.end_time - decode.start_time == 500_000_000
    assert request_id == "abc"


@pytest.mark.parametrize(
    "parent", ["", "nonsense", "00-0-0-00", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é"]
)
def test_a_bad_traceparent_begins_a_new_trace(
    tracer: tracing.Tracer, exporter: InMemorySpanExporter, parent: str
) -> None:
    with tracer.span("request", parent=parent):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert span.context.is_valid


def test_an_error_is_marked_without_its_text(tracer: tracing.Tracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), tracer.span("request"):
        raise ValueError("a secret")
    (span,) = exporter.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "ValueError")
    assert "secret" not in span.to_json()


def test_phases_follow_each_other(tracer: tracing.Tracer, exporter: InMemorySpanExporter) -> None:
    phases = tracing.Phases(tracer)
    with tracer.span("attempt"):
        for name in ("starting", "training", "storing"):
            phases.enter(name)
        phases.leave()
        phases.leave()
    *inside, attempt = exporter.get_finished_spans()
    assert [span.name for span in inside] == ["starting", "training", "storing"]
    assert all(span.parent.span_id == attempt.context.span_id for span in inside)
    assert inside[0].end_time == inside[1].start_time


def test_what_a_job_remembers_may_be_anything() -> None:
    assert tracing.remembered({}) == (None, None)
    assert tracing.remembered({"request_id": 7, "traceparent": ["x"]}) == (None, None)


def test_a_collector_that_is_not_there_delays_nobody() -> None:
    tracer = tracing.Tracer()
    tracer.open(SimpleNamespace(otlp_endpoint="http://127.0.0.1:9"), part="test")
    started = time.monotonic()
    for _ in range(200):
        with tracer.span("request"):
            pass
    assert time.monotonic() - started < 5, "spans wait in memory, the sender is a thread of its own"
    tracer.close()
    assert time.monotonic() - started < 30
