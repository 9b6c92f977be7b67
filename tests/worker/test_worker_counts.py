"""What a worker counts, logs and traces about an attempt, whatever way it ends."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import logs, tracing
from service.otel import Otel
from service.store import Store, counters, jobs
from worker.emit import Emitter, Records
from worker.runner import Outcome, run_job
from worker.starting import Afresh

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def counted(store: Store) -> dict[str, int]:
    """``family/label`` -> figure, of those that are not 0."""
    with store.session() as tx:
        found = counters.read(tx)
    return {f"{family}/{label}".rstrip("/"): n for (family, label), n in found.items() if n}


def test_each_end_of_an_attempt_is_counted_once(bench: Any, store: Store) -> None:
    assert bench.run(bench.job(), "done") is Outcome.SUCCEEDED
    assert bench.run(bench.job(encoder="b"), "crash") is Outcome.ABANDONED
    assert bench.run(bench.job(encoder="c"), "permanent") is Outcome.FAILED
    assert counted(store) == {
        "attempts_started": 3,
        "attempts_ended/succeeded": 1,
        "attempts_ended/abandoned": 1,
        "attempts_ended/failed": 1,
    }


def test_a_lease_that_was_lost_is_told_by_its_worker_too(bench: Any, store: Store) -> None:
    job = bench.job()
    running = bench.start(job, "stubborn")
    bench.wait_until_ready(job)
    with store.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE jobs SET fence = fence + 1")
    assert running.result(40) is Outcome.LOST
    assert counted(store)["attempts_ended/lost"] == 1


def test_messages_that_lead_nowhere_are_told_apart(bench: Any, store: Store) -> None:
    job = bench.job()
    with store.begin() as tx:
        jobs.request_cancel(tx, job.id)
    assert bench.run(job, "done") is Outcome.DROPPED
    for forged in ("job_" + "0" * 26, "../../x", ""):
        assert bench.run(forged, "done") is Outcome.DROPPED
    assert counted(store) == {"messages_dropped/not_free": 1, "messages_dropped/unknown_job": 3}


def test_a_job_that_cannot_be_published_again_is_counted(bench: Any, store: Store) -> None:
    bench._publish = lambda job_id, priority: False
    assert bench.run(bench.job(), "crash") is Outcome.ABANDONED
    assert counted(store)["publish_failures"] == 1


@pytest.mark.embedded
def test_log_and_trace_of_an_attempt_go_on_where_the_request_was(
    bench: Any, store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    exporter = InMemorySpanExporter()
    tracer = tracing.Tracer()
    tracer._otel = Otel("", part="worker", processor=SimpleSpanProcessor(exporter))
    fields: list[dict[str, Any]] = []

    class Noting(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            said = {"message": record.getMessage(), "logger": record.name}
            fields.append({**logs.present(), **getattr(record, "fields", {}), **said})
            return True

    caplog.handler.addFilter(Noting())
    job = bench.job(origin={"request_id": "abc", "traceparent": TRACEPARENT})
    child = Path(__file__).with_name("substitute_child.py")
    outcome = run_job(
        job.id,
        store=store,
        settings=bench.settings,
        owner="test",
        publish=lambda *_: True,
        start=Afresh((sys.executable, str(child), "tracked")),
        tracer=tracer,
    )
    assert outcome is Outcome.SUCCEEDED
    (said,) = [line for line in fields if line["message"] == "a line of the child"]
    assert said["part"] == "child"
    for line in fields:
        if job.id in line["message"] and not line["logger"].startswith("sqlalchemy"):
            assert (line["request_id"], line["job_id"], line["attempt"]) == ("abc", job.id, 1)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert list(spans) == ["prepare", "starting", "training", "storing", "store", "attempt"]
    assert f"{spans['attempt'].parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert spans["training"].parent.span_id == spans["attempt"].context.span_id
    assert dict(logs.present()) == {}


def test_the_log_of_the_child_goes_through_its_events(tmp_path: Path) -> None:
    import json
    import os

    reading, writing = os.pipe()
    logger = logging.getLogger("nidim.test")
    handler = Records(Emitter(writing))
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("it failed with %s", {"x": 1})
    finally:
        logger.removeHandler(handler)
        os.close(writing)
    with os.fdopen(reading) as lines:
        (line,) = [json.loads(text) for text in lines]
    assert line["type"] == "record"
    assert (line["data"]["level"], line["data"]["logger"]) == ("ERROR", "nidim.test")
    assert "it failed with {'x': 1}" in line["data"]["message"]
    assert "ValueError: why" in line["data"]["message"]
