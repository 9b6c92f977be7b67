"""Figures of a run: percentiles, where it ran, and the files that keep it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results" / "load"
PACKAGES = ("sqlalchemy", "psycopg", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson")


def timing_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile, highest and number, in milliseconds."""
    if not seconds:
        return {"n": 0}
    ordered = sorted(seconds)
    rank = min(len(ordered) - 1, int(0.99 * len(ordered)))
    found = {"median": statistics.median(ordered), "p99": ordered[rank], "max": ordered[-1]}
    return {"n": len(ordered), **{name: round(1000 * value, 3) for name, value in found.items()}}


def surroundings(seed: int) -> dict[str, Any]:
    """Hardware, versions, seed, command, and how busy the machine was."""
    import sqlite3

    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.load", *sys.argv[1:]]),
        "seed": seed,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "shared": "client, server and database share the machine",
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in PACKAGES},
    }


def store_figures(name: str, found: dict[str, Any]) -> Path:
    """Write ``results/load/<name>.json``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    return path


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
