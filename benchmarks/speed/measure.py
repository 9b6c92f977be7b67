"""Timing in turns, and the file that keeps what was found."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from nidim import __version__, machine

RESULTS = Path(__file__).parent.parent / "results" / "speed"
Json = dict[str, Any]
Work = Callable[[], object]
"""Does the work once. A float is taken as the seconds that count: it knows better than the clock around it."""


def in_turns(works: Mapping[str, Work], *, rounds: int = 7, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of every round of each work; they take turns, so that what else the machine does hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-warm_up, rounds):
        for name, work in works.items():
            gc.collect()
            began = time.perf_counter()
            said = work()
            seconds = said if isinstance(said, float) else time.perf_counter() - began
            if number >= 0:
                found[name].append(seconds)
    return found


def spread(values: Sequence[float]) -> Json:
    """Median, least and greatest, and how many."""
    ordered = sorted(values)
    return {
        "median": significant(statistics.median(ordered)),
        "min": significant(ordered[0]),
        "max": significant(ordered[-1]),
        "n": len(ordered),
    }


def significant(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def row(
    what: str,
    unit: str,
    ours: Sequence[float],
    *,
    limit: Sequence[float] | None = None,
    limit_is: str = "",
    peers: Mapping[str, Sequence[float]] | None = None,
    asked: str = "",
    met: bool | None = None,
    **more: Any,
) -> Json:
    """One line of a section. ``unit``: "s", where less is better, or a rate ("images/s"), where more is.

    ``asked`` says what was aimed at, ``met`` whether it was reached. Ratios are of medians, above 1 where ours is
    better.
    """
    found: Json = {"what": what, "unit": unit, "ours": spread(ours), **more}
    better = (lambda theirs: ratio(theirs, ours)) if unit in LESS else (lambda theirs: ratio(ours, theirs))
    if limit is not None:
        found |= {"limit": spread(limit), "limit_is": limit_is, "of_limit": better(limit)}
    if peers:
        found["peers"] = {
            name: {**spread(theirs), "ours_is_times": better(theirs)} for name, theirs in peers.items()
        }
    if asked:
        found |= {"asked": asked, "met": met}
    return found


LESS = ("s", "ms", "MB")
"""Units in which less is better."""


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Of the medians."""
    return significant(statistics.median(above) / statistics.median(below))


def surroundings(seed: int, packages: Sequence[str] = ()) -> Json:
    """Hardware, versions, seed, command, and how busy the machine was."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.speed", *sys.argv[1:]]),
        "seed": seed,
        "processor": machine.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "nidim": __version__,
        "revision": machine.revision(),
        "packages": {name: metadata.version(name) for name in ("torch", "numpy", "scipy", *packages)},
    }


def told(rows: Sequence[Json]) -> Sequence[Json]:
    """The rows, and a line of each for whoever waits: some sections take half an hour."""
    for found in rows:
        print(f"{found['what']}: {found['ours']['median']:g} {found['unit']}", file=sys.stderr, flush=True)
    return rows


def store(section: str, rows: Sequence[Json], *, where: Json, file: Path | None = None, **more: Any) -> Path:
    """Write ``results/speed/<section>.json``, or ``file``; ``where`` is what ``surroundings`` said before the work."""
    path = file or RESULTS / f"{section}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"section": section, "where": where, "rows": list(rows), **more}
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    return path
