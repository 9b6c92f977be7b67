"""What API processes count for Prometheus, in a registry of the application's own.

Where ``PROMETHEUS_MULTIPROC_DIR`` names a directory, as it does for the API processes of one ``nidim up``,
prometheus_client counts in files there, and the answer is the sum over all processes.

Labels are bounded: routes are templates, never paths; methods, codes and reasons come from fixed lists and everything
else is ``other``. What the whole system has in common comes from the database: ``service.gauges``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from nidim import __version__
from service.environment import COUNTS
from service.inference.runtimes import ENGINES

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CODES = frozenset({"bad_image", "image_too_large"})
OTHER = "other"


class Metrics:
    """The counters and histograms; a ``service.inference.watch.Watch``. ``shared``: where all processes count."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.shared = Path(os.environ[COUNTS]) if COUNTS in os.environ else None
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "nidim_requests",
            "Requests answered; status 0: the client hung up before",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "nidim_request_seconds",
            "Time from a request's head to the end of its answer; of streams, their whole life",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._observed: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Looked up once: to find them takes longer than to add to them."""
        self._make_embedding()

    def _make_embedding(self) -> None:
        registry = self._registry
        self._images = Counter(
            "nidim_images", "Images of answered embedding requests", ["result"], registry=registry
        )
        self._undecodable = Counter(
            "nidim_decode_failures", "Images that could not be used, by reason", ["code"], registry=registry
        )
        self._batch = Histogram(
            "nidim_batch_images",
            "Images in one forward pass, those of readiness probes included",
            buckets=BATCHES,
            registry=registry,
        )
        self._forward = Histogram(
            "nidim_forward_seconds", "Time of one forward pass", buckets=SECONDS, registry=registry
        )
        self._decode = Histogram(
            "nidim_decode_seconds", "Time to decode a request's images", buckets=SECONDS, registry=registry
        )
        self._restarts = Counter(
            "nidim_decoder_restarts",
            "Decoding processes that crashed, hung or were killed and were replaced",
            registry=registry,
        )
        self._load = Histogram(
            "nidim_load_seconds",
            "Time to load an encoder, by the engine that computes it",
            ["engine"],
            buckets=SECONDS,
            registry=registry,
        )
        self._queue_wait = Histogram(
            "nidim_queue_wait_seconds",
            "Time that a request's images waited for the engine",
            buckets=SECONDS,
            registry=registry,
        )
        for engine in ENGINES:
            self._load.labels(engine)
        for result in ("ok", "failed"):
            self._images.labels(result)
        for code in sorted(CODES | {OTHER}):
            self._undecodable.labels(code)

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One request; status 0 is a client that hung up."""
        key = (method if method in METHODS else OTHER, route, status)
        if key not in self._observed:
            count, time = self._requests.labels(*key), self._seconds.labels(*key[:2])
            self._observed[key] = count, time
        count, time = self._observed[key]
        count.inc()
        time.observe(seconds)

    def embedded(self, *, images: int, failed: int) -> None:
        """One embedding request that was answered."""
        self._images.labels("ok").inc(images - failed)
        self._images.labels("failed").inc(failed)

    def loaded(self, *, engine: str, load_s: float) -> None:
        """One encoder was loaded."""
        self._load.labels(engine).observe(load_s)

    def batch(self, *, images: int, forward_s: float) -> None:
        """One forward pass."""
        self._batch.observe(images)
        self._forward.observe(forward_s)

    def request(self, *, decode_s: float, queue_s: float) -> None:
        """One embedding request's times."""
        self._decode.observe(decode_s)
        self._queue_wait.observe(queue_s)

    def undecodable(self, code: str) -> None:
        """One image that cannot be used."""
        self._undecodable.labels(code if code in CODES else OTHER).inc()

    def decoder_lost(self) -> None:
        """One decoding process has to be replaced."""
        self._restarts.inc()

    def render(self, present: Sequence[Metric] = ()) -> bytes:
        """The text for Prometheus: what was counted, then ``present``."""
        counted = self._registry
        if self.shared is not None:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, path=str(self.shared))
        return generate_latest(counted) + generate_latest(_Present([_build(), *present]))

    def families(self) -> list[Metric]:
        """Everything that is always there, for the documentation."""
        return [*self._registry.collect(), _build()]


def _build() -> Metric:
    version = {"version": __version__, "python": platform.python_version()}
    return InfoMetricFamily("nidim_build", "Version of nidim and of Python; always 1", version)


class _Present(CollectorRegistry):
    """Families made for one answer."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
