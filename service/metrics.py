"""Counters for Prometheus, in a registry of the application's own."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Everything that /metrics shows."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nidim_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "nidim_request_seconds",
            "Time to answer",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._images = Counter("nidim_images", "Images embedded", ["result"], registry=self._registry)
        self._batch = Histogram(
            "nidim_batch_images", "Images in a batch", buckets=BATCHES, registry=self._registry
        )
        self._waiting = Gauge("nidim_images_waiting", "Images in the queues", registry=self._registry)
        self._loaded = Gauge("nidim_encoders_loaded", "Encoders in memory", registry=self._registry)
        self._jobs = Gauge("nidim_jobs_queued", "Jobs that wait for a worker", registry=self._registry)

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One request; status 0 is a client that hung up."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def embedded(self, *, images: int, failed: int, batch: int) -> None:
        """One embedding request."""
        self._images.labels("ok").inc(images - failed)
        self._images.labels("failed").inc(failed)
        if batch:
            self._batch.observe(batch)

    def render(self, gauges: Mapping[str, float]) -> bytes:
        """The text for Prometheus, with the present values of ``waiting``, ``loaded`` and ``jobs``."""
        self._waiting.set(gauges["waiting"])
        self._loaded.set(gauges["loaded"])
        self._jobs.set(gauges["jobs"])
        return generate_latest(self._registry)
