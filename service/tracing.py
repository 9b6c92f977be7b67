"""Traces: spans around what takes time, joined over API, queue, worker and child by W3C trace context.

    API      request ─┬─ decode ─ queue ─ forward           of an embedding
                      └─ publish                            of a submitted job
    worker   attempt ─┬─ prepare                            its parent is the request that submitted the job
                      ├─ child: starting, dataset, training, embedding, evaluating, storing
                      └─ store

Off unless ``otlp_endpoint`` is set, and then nothing of OpenTelemetry is imported and a span is nothing. The message of
the queue stays a job id: what joins both sides lies in the job's first event (:func:`origin`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from service import logs

if TYPE_CHECKING:
    from service.otel import Otel

Kind = Literal["internal", "server", "producer", "consumer"]
REQUEST_ID, TRACEPARENT = "request_id", "traceparent"


class TracingSettings(Protocol):
    """The settings that tracing needs."""

    @property
    def otlp_endpoint(self) -> str: ...


class TracingUnavailable(RuntimeError):
    """NIDIM_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: install the extra tracing, or unset it."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class Span(Protocol):
    """What is being timed."""

    def set(self, name: str | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        """Name it anew, now that more is known, or say more about it."""

    def fail(self, reason: str) -> None:
        """Mark it as an error."""


class NoSpan:
    """The span while tracing is off."""

    def set(self, name: str | None = None, attributes: Mapping[str, Any] | None = None) -> None: ...

    def fail(self, reason: str) -> None: ...


NO_SPAN = NoSpan()


class Tracer:
    """The spans of one process: nothing until ``open`` with an endpoint."""

    def __init__(self) -> None:
        self._otel: Otel | None = None

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._otel is not None

    def open(self, settings: TracingSettings, *, part: str) -> None:
        """Send what follows to the endpoint of the settings, if there is one. Raises TracingUnavailable."""
        if not settings.otlp_endpoint:
            return
        try:
            from service.otel import Otel
        except ImportError as error:
            raise TracingUnavailable from error
        self._otel = Otel(settings.otlp_endpoint, part=part)

    @contextmanager
    def span(
        self, name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Any
    ) -> Iterator[Span]:
        """Time the block; spans that begin in it are its children. ``parent``: a traceparent from elsewhere."""
        if self._otel is None:
            yield NO_SPAN
            return
        with self._otel.span(name, parent, kind, attributes) as span, logs.bound(trace_id=span.trace_id):
            yield span

    def past(self, name: str, *, start_s: float, end_s: float, **attributes: Any) -> None:
        """A child of the present span that is over; times in seconds since 1970."""
        if self._otel is not None:
            self._otel.past(name, start_s, end_s, attributes)

    def traceparent(self) -> str | None:
        """The present span for another process to go on from."""
        return None if self._otel is None else self._otel.traceparent()

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        if self._otel is not None:
            self._otel.close()
            self._otel = None


class Phases:
    """The stretches of a child's life, one after the other."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._name, self._since = "", 0.0

    def enter(self, name: str) -> None:
        """The stretch before this one is over."""
        now = time.time()
        if self._name:
            self._tracer.past(self._name, start_s=self._since, end_s=now)
        self._name, self._since = name, now

    def leave(self) -> None:
        """The last one is over."""
        self.enter("")


def origin(tracer: Tracer) -> dict[str, str]:
    """What a job remembers of the request that submits it."""
    known = {REQUEST_ID: logs.present().get(REQUEST_ID), TRACEPARENT: tracer.traceparent()}
    return {name: value for name, value in known.items() if value is not None}


def remembered(data: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Request id and traceparent in the data of a job's first event."""
    found = [data.get(name) for name in (REQUEST_ID, TRACEPARENT)]
    request_id, traceparent = (value if isinstance(value, str) else None for value in found)
    return request_id, traceparent
