"""What seeing costs: ``python -m benchmarks.seeing`` writes results/seeing/costs.json and costs.md.

scrape   reading every figure of a full system from SQLite (10,000 jobs, 10,000 encoders, 100,000 events)
line     one log line as JSON, its secrets masked; one that nobody wants
span     one span while tracing is off, and on with the spans thrown away
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.load.figures import surroundings, timing_ms
from benchmarks.load.fill import fill
from service import gauges, logs, tracing
from service.metrics import Metrics
from service.settings import Settings
from service.store import Store, figures, open_store

RESULTS = Path(__file__).parent / "results" / "seeing"
SIZES = {"n_jobs": 10_000, "n_encoders": 10_000, "n_events": 100_000}
ROUNDS, LINES = 30, 20_000


def scrape(store: Store) -> dict[str, Any]:
    """Seconds of one whole answer of /metrics, without HTTP."""
    metrics, took = Metrics(), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with store.session() as tx:
            moments = {os.getpid(): gauges.Moment()}
            present = [*gauges.of_system(figures.read(tx)), *gauges.of_processes(moments)]
        text = metrics.render(present)
        took.append(time.perf_counter() - started)
    return {"ms": timing_ms(took), "bytes": len(text)}


def each_us(action: Callable[[], None], times: int = LINES) -> float:
    """Microseconds of one ``action``, the best of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(times):
            action()
        rounds.append(time.perf_counter() - started)
    return round(min(rounds) / times * 1e6, 2)


def lines() -> dict[str, float]:
    """What a line costs whoever writes it."""
    log, found = logging.getLogger("service.bench"), {}
    for log_format in ("text", "json"):
        settings = Settings(log_format=log_format, key_pepper="x" * 32)
        logs.set_up(settings, part="api", stream=io.StringIO())
        fields = {"fields": {"method": "POST", "route": "/v1/jobs", "status": 202, "ms": 1.5}}
        with logs.bound(request_id="abc"):
            found[f"{log_format}_us"] = each_us(lambda: log.info("%s %s", "POST", "/v1/jobs", extra=fields))  # noqa: B023
            found["unwanted_us"] = each_us(lambda: log.debug("%s", "x"))
    return found


def spans() -> dict[str, float]:
    """What a span costs whoever is timed."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    off, on = tracing.Tracer(), tracing.Tracer()
    on._otel = _otel(Nowhere())

    def spent(tracer: tracing.Tracer) -> None:
        with tracer.span("x", kind="server") as span:
            span.set("y", {"status": 200})

    return {"off_us": each_us(lambda: spent(off)), "on_us": each_us(lambda: spent(on), 2000)}


def _otel(exporter: Any) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from service.otel import Otel

    return Otel("", part="bench", processor=BatchSpanProcessor(exporter))


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(SimpleNamespace(data_dir=Path(directory), database_url="", blob_url=""))
        empty = scrape(store)
        fill(store, **SIZES)
        full = scrape(store)
        store.close()
    found = {
        **surroundings(0),
        "command": "python -m benchmarks.seeing",
        "sizes": SIZES,
        "scrape_empty": empty,
        "scrape_full": full,
        "line": lines(),
        "span": spans(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "costs.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / "costs.md").write_text(page(found))
    print(page(found))


def page(found: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = [
        ("scrape of an empty system, median (p99)", _scrape(found["scrape_empty"])),
        ("scrape of a full system, median (p99)", _scrape(found["scrape_full"])),
        ("a log line as text / as JSON", f"{found['line']['text_us']} / {found['line']['json_us']} µs"),
        ("a log line that the level leaves out", f"{found['line']['unwanted_us']} µs"),
        ("a span, tracing off / on", f"{found['span']['off_us']} / {found['span']['on_us']} µs"),
    ]
    table = "\n".join(f"| {what} | {cost} |" for what, cost in rows)
    where = f"{found['cpu']}, {found['cores']} cores, load {found['load_average_before'][0]}, SQLite {found['sqlite']}"
    full = ", ".join(f"{count:,} {name[2:]}" for name, count in found["sizes"].items())
    return (
        f"# What seeing costs\n\n| | |\n|---|---|\n{table}\n\nFull: {full}. {where}. `{found['command']}`.\n"
    )


def _scrape(found: dict[str, Any]) -> str:
    return f"{found['ms']['median']} ({found['ms']['p99']}) ms"


if __name__ == "__main__":
    main()
