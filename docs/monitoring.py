"""``python docs/monitoring.py``: what is made from the code and from alerts.yml: metrics.md, alerts.md, grafana.json.

A test compares what is stored with what the code says now, and every expression with the metrics that exist.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.core import Metric

from service import gauges
from service.metrics import Metrics
from service.store import counters
from service.store.drift import Shown
from service.store.figures import Figures

HERE = Path(__file__).resolve().parent
SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_info")
PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Requests a second by status",
        "reqps",
        (("sum by (status) (rate(nidim_requests_total[5m]))", "{{status}}"),),
    ),
    (
        "Embedding: time by stage, p99",
        "s",
        tuple(
            (f"histogram_quantile(0.99, sum by (le) (rate(nidim_{stage}_seconds_bucket[5m])))", stage)
            for stage in ("decode", "queue_wait", "forward")
        ),
    ),
    ("Images a second", "short", (("sum by (result) (rate(nidim_images_total[5m]))", "{{result}}"),)),
    (
        "Images in a batch, mean",
        "short",
        (("sum(rate(nidim_batch_images_sum[5m])) / sum(rate(nidim_batch_images_count[5m]))", "images"),),
    ),
    ("Jobs", "short", (('max by (state) (nidim_jobs{state=~"queued|running"})', "{{state}}"),)),
    ("Queue age", "s", (("max(nidim_queue_age_seconds)", "oldest"),)),
    (
        "Attempts an hour",
        "short",
        (("max by (outcome) (increase(nidim_attempts_ended_total[1h]))", "{{outcome}}"),),
    ),
    (
        "What should be zero, an hour",
        "short",
        (
            ("max(increase(nidim_lease_losses_total[1h]))", "leases lost"),
            ("max(increase(nidim_publish_failures_total[1h]))", "not published"),
            (
                'sum(max by (reason) (increase(nidim_messages_dropped_total{reason!="not_free"}[1h])))',
                "dropped",
            ),
            ("sum(increase(nidim_decoder_restarts_total[1h]))", "decoders lost"),
            ("max(nidim_encoders_damaged)", "encoders damaged"),
        ),
    ),
    (
        "Drift: days of the detector",
        "short",
        (("max by (encoder) (nidim_drift_detector_days)", "{{encoder}}"),),
    ),
    (
        "Blobs",
        "bytes",
        (("max by (kind) (nidim_blob_bytes)", "{{kind}}"), ("min(nidim_data_free_bytes)", "free")),
    ),
    (
        "Memory",
        "bytes",
        (
            ("process_resident_memory_bytes", "{{instance}}"),
            ("nidim_encoders_loaded_bytes", "{{instance}} encoders"),
        ),
    ),
)


def of_process() -> list[Metric]:
    """The families of an API process, each with a sample of every label."""
    metrics = Metrics()
    metrics.observe(method="GET", route="/v1/jobs", status=200, seconds=0.1)
    return [*metrics.families(), *gauges.of_processes({os.getpid(): gauges.Moment()})]


def of_system() -> list[Metric]:
    """The families that come from the database."""
    nothing = dict.fromkeys(
        [(name, label) for name, labels in counters.FAMILIES.items() for label in labels], 0
    )
    figures = Figures(
        jobs={"queued": 0},
        queue_age_s=0,
        leases_overdue=0,
        datasets={"ready": 0},
        ingest_silence_s=0,
        encoder_versions=0,
        generator_versions=0,
        encoders_damaged=0,
        blob_bytes={"encoders": 0},
        counters=nothing,
        drifts=(Shown(encoder="name@1", n=0, detector_log_days=None, alarm=False),),
    )
    return list(gauges.of_system(figures))


def exposed() -> set[str]:
    """Every name that an expression may use."""
    families = [*of_process(), *of_system()]
    return {sample.name for family in families for sample in family.samples}


def mentioned(text: str) -> set[str]:
    """Names in ``text`` that look like metrics of ours."""
    return set(re.findall(r"\b(?:nidim|process)_[a-z0-9_]+\b", text))


def metrics_page() -> str:
    """Every metric with its labels and meaning."""
    lines = ["# Metrics", "", "`GET /metrics` (scope `read`), in Prometheus' text format.", ""]
    for title, families in (
        ("Of the API processes of one `nidim up`, summed: sum them over several", of_process()),
        ("Of the whole system, from the database: the same in every process, take their max", of_system()),
    ):
        lines += [f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += [_row(family) for family in families]
        lines.append("")
    return "\n".join(lines)


def _row(family: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{family.name}{suffix}` | {family.type} | {shown} | {family.documentation.rstrip('.')} |"


def rules() -> Iterator[dict[str, Any]]:
    """The alerts of alerts.yml."""
    for group in yaml.safe_load((HERE / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def alerts_page() -> str:
    """Every alert: when it fires and what to do."""
    lines = [
        "# Alerts",
        "",
        "Rules for Prometheus: [alerts.yml](alerts.yml). `page`: somebody gets up; `ticket`: today.",
        "",
    ]
    for rule in rules():
        notes = rule["annotations"]
        lines += [f"## {rule['alert']}", "", f"{notes['summary']} ({rule['labels']['severity']})", ""]
        wait = f"  for {rule['for']}" if "for" in rule else ""
        lines += ["```promql", f"{rule['expr'].strip()}{wait}", "```", "", notes["action"].strip(), ""]
    return "\n".join(lines)


def grafana() -> str:
    """A dashboard for Grafana."""
    panels = [_panel(number, *panel) for number, panel in enumerate(PANELS)]
    source = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    board = {
        "uid": "nidim",
        "title": "nidim",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"


def _panel(number: int, title: str, unit: str, queries: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend}
        for i, (expr, legend) in enumerate(queries)
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


PAGES = {"metrics.md": metrics_page, "alerts.md": alerts_page, "grafana.json": grafana}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
