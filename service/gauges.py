"""What /metrics says about this moment: the whole system from the database, and the memory of its API processes.

Figures of the database are the same wherever they are asked for: take ``max`` over them, never ``sum``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import ProcessCollector
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
    """What a process has in memory, and what it sees around it."""

    encoders_loaded: int = 0
    encoders_loaded_bytes: int = 0
    images_waiting: int = 0
    ingestions: int = 0
    event_streams: int = 0
    broker_up: bool = False
    blobs_up: bool = False
    data_free_bytes: int = 0

    def __add__(self, other: Moment) -> Moment:
        """Of both processes: what one of them does not reach is down."""
        return Moment(
            encoders_loaded=self.encoders_loaded + other.encoders_loaded,
            encoders_loaded_bytes=self.encoders_loaded_bytes + other.encoders_loaded_bytes,
            images_waiting=self.images_waiting + other.images_waiting,
            ingestions=self.ingestions + other.ingestions,
            event_streams=self.event_streams + other.event_streams,
            broker_up=self.broker_up and other.broker_up,
            blobs_up=self.blobs_up and other.blobs_up,
            data_free_bytes=min(self.data_free_bytes, other.data_free_bytes),
        )


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


def of_processes(moments: Mapping[int, Moment]) -> Iterator[Metric]:
    """The families of the processes with these ids, summed where they can be."""
    first, *others = moments.values()
    yield from _of_moment(sum(others, first))
    yield from _of_kernel(moments)


def _of_moment(moment: Moment) -> Iterator[Metric]:
    yield _one("nidim_encoders_loaded", "Encoders in memory", moment.encoders_loaded)
    yield _one("nidim_encoders_loaded_bytes", "Bytes of encoders in memory", moment.encoders_loaded_bytes)
    yield _one("nidim_images_waiting", "Images in the queues for a forward pass", moment.images_waiting)
    yield _one("nidim_ingestions", "Uploads being read", moment.ingestions)
    yield _one("nidim_event_streams", "Event streams that are open", moment.event_streams)
    yield _one("nidim_broker_up", "Whether the broker answers", float(moment.broker_up))
    yield _one("nidim_blobs_up", "Whether the blob store answers", float(moment.blobs_up))
    yield _one(
        "nidim_data_free_bytes", "Free bytes on the file system of the data directory", moment.data_free_bytes
    )


NOT_SUMMED = {"process_start_time_seconds": max, "process_max_fds": min}


def _of_kernel(pids: Iterable[int]) -> Iterator[Metric]:
    """prometheus_client's families of a process, over ``pids``: sums, the latest start, the least limit."""
    values: dict[str, list[float]] = {}
    families: dict[str, Metric] = {}
    for pid in pids:
        for family in ProcessCollector(pid=functools.partial(int, pid), registry=None).collect():
            families[family.name] = family
            values.setdefault(family.name, []).extend(sample.value for sample in family.samples)
    for name, family in families.items():
        whole = NOT_SUMMED.get(name, sum)(values[name])
        family.samples = [sample._replace(value=whole) for sample in family.samples]
        yield family


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
