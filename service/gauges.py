"""What /metrics says about this moment: the whole system from the database, and this process's memory.

Figures of the database are the same in every API process: take ``max`` over them, never ``sum``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from service.store import counters, drift
from service.store.figures import Figures

COUNTERS = {
    counters.ATTEMPTS_STARTED: ("nidim_attempts_started", "Attempts at jobs that workers began", None),
    counters.ATTEMPTS_ENDED: ("nidim_attempts_ended", "Attempts that a worker saw to their end", "outcome"),
    counters.LEASE_LOSSES: (
        "nidim_lease_losses",
        "Leases that ran out while a worker held them: it died, hung or lost the database",
        None,
    ),
    counters.JOBS_REAPED: ("nidim_jobs_reaped", "Jobs whose lease had run out, by what became", "result"),
    counters.PUBLISH_FAILURES: (
        "nidim_publish_failures",
        "Job ids that the broker did not take; the reaper tries again",
        None,
    ),
    counters.MESSAGES_DROPPED: (
        "nidim_messages_dropped",
        "Messages of the broker that workers dropped: unknown_job and foreign are forged or stale",
        "reason",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What this process has in memory, and what it sees around it."""

    encoders_loaded: int = 0
    encoders_loaded_bytes: int = 0
    images_waiting: int = 0
    decoder_restarts: int = 0
    ingestions: int = 0
    event_streams: int = 0
    broker_up: bool = False
    blobs_up: bool = False
    data_free_bytes: int = 0


def of_system(figures: Figures) -> Iterator[Metric]:
    """The families of ``figures``."""
    yield _labelled("nidim_jobs", "Jobs by state", "state", figures.jobs)
    yield _one(
        "nidim_queue_age_seconds", "How long the job waits that waits longest; 0: none", figures.queue_age_s
    )
    yield _one(
        "nidim_leases_overdue", "Running jobs whose lease ran out, until the reaper", figures.leases_overdue
    )
    yield _labelled("nidim_datasets", "Uploaded datasets by state", "state", figures.datasets)
    yield _one(
        "nidim_ingest_silence_seconds",
        "Longest time since an ingestion under way gave a sign of life; 0: none is under way",
        figures.ingest_silence_s,
    )
    yield _one("nidim_encoder_versions", "Versions of encoders that are registered", figures.encoder_versions)
    yield _one(
        "nidim_generator_versions", "Versions of generators that are registered", figures.generator_versions
    )
    yield _one(
        "nidim_encoders_damaged", "Encoders whose files are not what was stored", figures.encoders_damaged
    )
    yield _labelled(
        "nidim_blob_bytes", "Bytes of blobs in use, by what refers to them", "kind", figures.blob_bytes
    )
    for family, (name, meaning, label) in COUNTERS.items():
        found = {key: n for (owner, key), n in figures.counters.items() if owner == family}
        yield _counted(name, meaning, label, found)
    yield from _drifts(figures.drifts)


LOG_MOST = math.log(1e9)
DRIFTS: tuple[tuple[str, str, Callable[[drift.Shown], float]], ...] = (
    (
        "observations",
        "Embedded images (requests: NIDIM_DRIFT_UNIT) watched for drift since the reset",
        lambda one: one.n,
    ),
    (
        "detector_days",
        "Detector of drift, in days: it alarms at 1 / NIDIM_DRIFT_FALSE_ALARMS_PER_DAY; at most 1e9",
        lambda one: 0.0 if one.detector_log_days is None else math.exp(min(one.detector_log_days, LOG_MOST)),
    ),
    ("alarm", "Whether drift was found since the reset", lambda one: float(one.alarm)),
)


def _drifts(shown: tuple[drift.Shown, ...]) -> Iterator[Metric]:
    """Of at most ``drift.MOST_SHOWN`` encoders."""
    for name, meaning, value in DRIFTS:
        family = GaugeMetricFamily(f"nidim_drift_{name}", meaning, labels=["encoder"])
        for one in shown:
            family.add_metric([one.encoder], value(one))
        yield family


def of_process(moment: Moment) -> Iterator[Metric]:
    """The families of ``moment``."""
    yield _one("nidim_encoders_loaded", "Encoders in memory", moment.encoders_loaded)
    yield _one("nidim_encoders_loaded_bytes", "Bytes of encoders in memory", moment.encoders_loaded_bytes)
    yield _one("nidim_images_waiting", "Images in the queues of this process", moment.images_waiting)
    yield _counted(
        "nidim_decoder_restarts",
        "Decoding processes that crashed, hung or were killed and were replaced",
        None,
        {"": moment.decoder_restarts},
    )
    yield _one("nidim_ingestions", "Uploads being read by this process", moment.ingestions)
    yield _one("nidim_event_streams", "Event streams that are open in this process", moment.event_streams)
    yield _one("nidim_broker_up", "Whether the broker answers this process", float(moment.broker_up))
    yield _one("nidim_blobs_up", "Whether the blob store answers this process", float(moment.blobs_up))
    yield _one(
        "nidim_data_free_bytes", "Free bytes on the file system of the data directory", moment.data_free_bytes
    )


def _one(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _labelled(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counted(name: str, meaning: str, label: str | None, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family
