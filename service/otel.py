"""OpenTelemetry behind ``service.tracing``; imported only where an endpoint is set.

The provider belongs to its Otel, not to the process: nothing global is changed. Spans leave in batches from a thread
of the SDK; a collector that is down or slow costs spans, never a request.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nidim import __version__
from service.tracing import TRACEPARENT, Kind

PATH = "/v1/traces"
EXPORT_TIMEOUT_S = 3
FLUSH_MS = 3000
KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
NS = 1_000_000_000

logger = logging.getLogger(__name__)


class _Span:
    """A ``service.tracing.Span`` that is recorded."""

    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def set(self, name: str | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(_given(attributes or {}))

    def fail(self, reason: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, reason))


class Otel:
    """Spans of one process on their way to a collector."""

    def __init__(self, endpoint: str, *, part: str, processor: SpanProcessor | None = None) -> None:
        about = {"service.name": f"nidim-{part}", "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or _exporting(endpoint))
        self._tracer = self._provider.get_tracer("nidim", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, parent: str | None, kind: Kind, attributes: Mapping[str, Any]
    ) -> Iterator[_Span]:
        """A span around the block; an exception marks it as failed, without its text."""
        above = self._propagator.extract({TRACEPARENT: parent}, Context()) if parent else None
        span = self._tracer.start_span(name, above, KINDS[kind], _given(attributes))
        made = _Span(span)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield made
            except BaseException as error:
                made.fail(type(error).__name__)
                raise

    def past(self, name: str, start_s: float, end_s: float, attributes: Mapping[str, Any]) -> None:
        """A span that is over, below the present one."""
        span = self._tracer.start_span(name, attributes=_given(attributes), start_time=int(start_s * NS))
        span.end(int(max(start_s, end_s) * NS))

    def traceparent(self) -> str | None:
        """The present span in the words of W3C trace context."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(TRACEPARENT)

    def close(self) -> None:
        """Send what waits."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def _exporting(endpoint: str) -> BatchSpanProcessor:
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(url if url.endswith(PATH) else url + PATH, timeout=EXPORT_TIMEOUT_S)
    return BatchSpanProcessor(exporter)


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
