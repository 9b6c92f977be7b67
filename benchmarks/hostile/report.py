"""The figures of a run as JSON and as a short text."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile.attack import Outcome, Tally

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "pillow",
    "numpy",
    "pyarrow",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "python-multipart",
    "pydantic",
)


def write(outcome: Outcome, out: Path, *, n: int, seed: int) -> None:
    """``corpus.json`` and ``corpus.md`` in ``out``."""
    figures = summary(outcome, n=n, seed=seed)
    (out / "corpus.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "corpus.md").write_text(text(figures))


def summary(outcome: Outcome, *, n: int, seed: int) -> dict[str, Any]:
    """Everything that is reported."""
    return {
        "command": f"python -m benchmarks.hostile --n {n} --seed {seed}",
        "seed": seed,
        "mutants": outcome.count,
        "mutants_asked_for": n,
        "not_as_documented": [
            {"number": f.number, "family": f.family, "why": f.why[:300]} for f in outcome.failures
        ],
        "server_errors": sum(
            count
            for t in outcome.tallies.values()
            for status, count in t.statuses.items()
            if status[0] == "5"
        ),
        "reference_requests": len(outcome.reference_s),
        "reference_s": _quantiles(outcome.reference_s),
        "peak_rss_mb": {kind: round(mb) for kind, mb in sorted(outcome.peak_mb.items())},
        "wall_s": round(outcome.wall_s),
        "kinds": {kind: _row(tally) for kind, tally in sorted(_by_kind(outcome).items())},
        "families": {name: _row(tally) for name, tally in sorted(outcome.tallies.items())},
        **surroundings(PACKAGES),
    }


def text(figures: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        f"| {name} | {row['mutants']} | {row['statuses']} | {row['p50_s']:.2f} | {row['max_s']:.2f} |"
        for name, row in figures["kinds"].items()
    ]
    peak = ", ".join(f"{kind} {mb} MB" for kind, mb in figures["peak_rss_mb"].items())
    return "\n".join(
        [
            "# Hostile input",
            "",
            f"`{figures['command']}`: {figures['mutants']} of {figures['mutants_asked_for']} mutants "
            "against one real API process, each followed by a reference request. "
            f"Not answered as documented: {len(figures['not_as_documented'])}. "
            f"Answers of 5xx: {figures['server_errors']}. Reference answers that changed: "
            f"{sum('next request' in f['why'] for f in figures['not_as_documented'])}.",
            "",
            f"Highest resident memory: {peak}. {figures['wall_s']} s on {figures['hardware']['cpus']} shared cores "
            f"(other measurements ran beside it), Python {figures['hardware']['python']}.",
            "",
            "| kind | mutants | statuses | median s | longest s |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "`closed`: no HTTP answer was due (the client had hung up, or was still sending). The families in detail "
            "are in corpus.json.",
            "",
        ]
    )


def surroundings(packages: Sequence[str]) -> dict[str, Any]:
    """Of every run: when, with which code, on what."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cpus": _cpus(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in packages},
    }


def revision() -> str:
    """The commit of this checkout; with a mark where files differ from it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude", "*", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _by_kind(outcome: Outcome) -> dict[str, Tally]:
    kinds: dict[str, Tally] = {}
    for name, tally in outcome.tallies.items():
        kind = kinds.setdefault(name.partition("/")[0], Tally())
        kind.statuses.update(tally.statuses)
        kind.seconds.extend(tally.seconds)
    return kinds


def _row(tally: Tally) -> dict[str, Any]:
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
    return {"mutants": len(tally.seconds), "statuses": statuses, **_quantiles(tally.seconds)}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99, most = np.quantile(seconds, [0.5, 0.99, 1.0])
    return {"p50_s": round(float(p50), 4), "p99_s": round(float(p99), 4), "max_s": round(float(most), 3)}


def _cpus() -> int:
    return len(os.sched_getaffinity(0))
