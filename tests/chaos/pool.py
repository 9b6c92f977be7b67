"""``python -m tests.chaos.pool DIRECTORY``: the runs that are stored there, pooled to its README.md.

A run that was killed before its checks has counted nothing: it is named and left out.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Hit
from tests.chaos.report import rows

Run = dict[str, Any]
COLUMNS = {
    "embedded": "`nidim up`: SQLite, the embedded Redis, blobs in a directory",
    "servers": "PostgreSQL, Redis and an S3 (moto), two API processes, two workers",
}
HEAD = """# Faults

Made by `python -m tests.chaos --out benchmarks/results/chaos` from the JSON files here. Real stacks under a stream of
jobs, embeddings, uploads and event streams; one fault after the other at random moments, with the default settings (a
lease of 30 s) but for `NIDIM_CHECKPOINT_EVERY_S=1`. A fault is counted only if it is known to have happened. Recovery
runs from the end of the fault until embeddings are answered, every job that ran has moved on and, where the queue was
hit, another job has started. Checked at the end of a run: no job lost, doubled or without exactly one end; one job for
a key; every event read once and in order; encoders and datasets whole; weights and vectors equal; no process left. What
did not hold is listed as VIOLATED.
"""
S3_IN_MEMORY = """
moto keeps its objects in memory, so the S3 is paused, slow, a black hole, full (507) and away for seconds
(connections cut and refused, as while it restarts), but never killed. The embedded Redis listens on a unix socket
that `nidim up` makes: no proxy can be put before it, so in that column a broker that does not answer is a paused one.
"""


def write(directory: Path) -> Path:
    """README.md of all runs in ``directory``."""
    runs = [json.loads(path.read_text()) for path in sorted(directory.glob("*-seed*.json"))]
    lines = [HEAD + S3_IN_MEMORY, *_all(runs)]
    for column, what in COLUMNS.items():
        lines += [
            "",
            f"## {column}",
            "",
            f"{what}.",
            "",
            *_column([run for run in runs if _of(run) == column]),
        ]
    if (deploys := directory / "deploys.json").exists():
        lines += ["", *_deploys(json.loads(deploys.read_text()))]
    path = directory / "README.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _of(run: Run) -> str:
    return str(run["plan"]["column"])


def _complete(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.get("complete")]


def _all(runs: Sequence[Run]) -> Iterator[str]:
    counted = _complete(runs)
    if not counted:
        yield "No campaign that ran to its end is stored yet."
        return
    faults, violations = (
        sum(len(run["hits"]) for run in counted),
        sum(len(run["violations"]) for run in counted),
    )
    yield f"**{faults} faults, {violations} violations** in {len(counted)} runs."


def _column(runs: Sequence[Run]) -> Iterator[str]:
    counted = _complete(runs)
    for run in runs:
        yield _line(run)
    if not counted:
        return
    failures: dict[str, Counter[str]] = {}
    for run in counted:
        for fault, kinds in run["counts"]["embed_failures"].items():
            failures.setdefault(fault, Counter()).update(kinds)
    hits = [Hit(**hit) for run in counted for hit in run["hits"]]
    yield from ("", *rows(hits, failures), "", *_totals(counted))
    for run in counted:
        yield from (f"- VIOLATED (seed {run['plan']['seed']}): {words}" for words in run["violations"])


def _line(run: Run) -> str:
    seed, where = run["plan"]["seed"], f"revision {run.get('revision', 'unknown')}, {run['hardware']}"
    if not run.get("complete"):
        return f"- seed {seed}: ended before its checks after {len(run['hits'])} faults, not counted; {where}"
    missed = f", {len(run['missed'])} did not happen and are not counted" if run["missed"] else ""
    return (
        f"- seed {seed}: {len(run['hits'])} faults{missed}, {len(run['violations'])} violations, "
        f"{run['counts']['seconds'] / 60:.0f} minutes; {where}; {run['at']}"
    )


def _totals(runs: Sequence[Run]) -> Iterator[str]:
    def total(name: str) -> int:
        return sum(run["counts"].get(name, 0) for run in runs)

    states: Counter[str] = Counter()
    uploads: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for run in runs:
        states.update(run["counts"]["states"])
        uploads.update(run["counts"]["upload_failures"])
        codes.update(failure["code"] for failure in run["counts"]["failures"])
    ends = ", ".join(f"{n} {state}" for state, n in states.items()) + (f" ({dict(codes)})" if codes else "")
    yield f"- jobs: {total('accepted')} accepted, {ends}; {total('cancellations')} cancelled by a client"
    yield f"- submissions sent twice at once with one key: {total('sent_twice')}"
    yield (
        f"- weights compared with an uninterrupted training, to the bit: {total('weights_compared')} of "
        f"{total('encoder_versions')} encoder versions"
    )
    yield (
        f"- event streams: {total('streams')} for {total('streamed_jobs')} jobs read to their end, "
        f"{total('streamed_events')} events"
    )
    failed = ", ".join(f"{n} × {how}" for how, n in uploads.items()) or "none"
    yield f"- datasets answered 201: {total('uploaded')}; uploads that failed: {failed}"
    yield f"- embeddings answered: {total('embeddings')}"


def _deploys(found: Run) -> Iterator[str]:
    yield from ("## Deploys under embedding load", "")
    yield f"`{found['command']}`, revision {found['revision']}, {found['hardware']}."
    yield from ("", "| successor | SIGTERMs | connections | in flight at SIGTERM, mean | answered | failed |")
    yield "|---|---|---|---|---|---|"
    for row in found["deploys"]:
        yield (
            f"| {row['successor']} | {row['sigterms']} | {row['clients']} | {row['in_flight_mean']} "
            f"| {row['answered']} | {row['failed']} |"
        )


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]))}\n")
