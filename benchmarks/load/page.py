"""The page of the stored figures: results/load/README.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.load.figures import RESULTS

DATABASES = ("sqlite", "postgresql")
Json = dict[str, Any]


def write() -> Path:
    """Write the page from what is stored."""
    path = RESULTS / "README.md"
    path.write_text("\n".join(_lines()) + "\n")
    return path


def _lines() -> Iterator[str]:
    yield "# Under load"
    yield ""
    yield "`python -m benchmarks.load --database sqlite|postgresql`; client, API process and database share one"
    yield "machine, and its other work shows in the tails. Milliseconds as median / p99. Made from the JSON files here."
    for database in DATABASES:
        parts = {part: _stored(part, database) for part in ("listing", "streams", "uploads", "submits")}
        shown = {part: found for part, found in parts.items() if found is not None}
        if not shown:
            continue
        yield from ("", f"## {database}")
        where = next(iter(shown.values()))["where"]
        machine = (
            f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, Python {where['python']}"
        )
        yield f"{machine}; load average before {where['load_average_before'][0]}; {where['at']}."
        for part, found in shown.items():
            yield from ("", *SHOWN[part](found))


def _stored(part: str, database: str) -> Json | None:
    path = RESULTS / f"{part}-{database}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _listing(found: Json) -> Iterator[str]:
    rows = found["rows"]
    yield (
        f"**Listing.** {rows['n_jobs']:,} queued jobs, {rows['n_encoders']:,} encoder versions, "
        f"{rows['n_events']:,} events, against a service with one page of rows and an empty one; "
        f"{rows['rounds']} rounds, in turns. Lists have 50 items (of a name 10), in the empty service none."
    )
    yield from (
        "",
        "| operation | empty | one page | full | full / page | full / empty |",
        "|---|---|---|---|---|---|",
    )
    for name, each in found["operations"].items():
        cells = [_ms(each[server]) for server in ("empty", "page", "full")]
        yield f"| {name} | {' | '.join(cells)} | {each['full/page']} | {each['full/empty']} |"
    yield ""
    for kind in ("jobs", "encoders"):
        few, many = (found["walks"][server][kind] for server in ("page", "full"))
        yield (
            f"Through all {kind}: {many['items']:,} items, {many['distinct']:,} distinct, "
            f"{many['ms_per_100']} ms a hundred (one page: {few['ms_per_100']})."
        )


def _streams(found: Json) -> Iterator[str]:
    size, idle, busy = found["size"], found["idle"], found["busy"]
    yield (
        f"**Event streams.** {size['readers']:,} readers and {size['slow']} that stop reading, {size['returning']} "
        f"that come back with Last-Event-ID, {size['vanishing']} that vanish; {size['jobs']} jobs, "
        f"{found['events_per_reader']} events to each reader. Readers that lost or doubled an event: "
        f"**{found['lost_or_doubled_readers']}**. From before the write to after the parse: {_ms(found['late_ms'])} ms "
        f"(looks every 250 ms). Memory {found['memory_mb_before']:.0f} MB before, {found['memory_mb_open']:.0f} with "
        f"all open ({found['kb_per_reader']} KB a reader), {found['memory_mb_peak']:.0f} at its peak. "
        f"CPU {100 * idle['cpu_share']:.0f} % of a core idle, {100 * busy['cpu_share']:.0f} % busy. "
        f"Other requests meanwhile: {_ms(busy['other_requests_ms'])} ms."
    )
    if idle["transactions_per_s"] is not None:
        yield (
            f"Transactions a second in the database: {idle['transactions_per_s']} idle, {busy['transactions_per_s']} "
            "busy, the writer's own and those of other requests included."
        )


def _uploads(found: Json) -> Iterator[str]:
    size = found["size"]
    yield (
        f"**Uploads.** {size['uploads']} at once, {found['bytes_each']:,} bytes each, all different, two read at a "
        f"time; then as many over {size['slow_s']:.0f} s each; then {size['stalled']} that stop halfway."
    )
    yield from ("", "| wave | ends | seconds | uploads | other requests | peak MB | with children |")
    yield "|---|---|---|---|---|---|---|"
    for wave in ("alone", "quick", "slow", "stopped"):
        each = found[wave]
        ends = ", ".join(f"{count} × {status}" for status, count in each["ends"].items()) or "none"
        yield (
            f"| {wave} | {ends} | {each['seconds']} | {_ms(each['upload_ms'])} | {_ms(each['others_ms'])} "
            f"| {each['memory_mb_peak']} | {each['memory_mb_peak_with_children']:.0f} |"
        )


def _submits(found: Json) -> Iterator[str]:
    size, worker = found["size"], found["worker"]
    statuses = ", ".join(f"{count:,} × {status}" for status, count in found["statuses"].items())
    yield (
        f"**Submitting.** {size['submits']:,} jobs over {size['writers']} connections beside {size['readers']} readers "
        f"that list and a worker in another process: {statuses}, {found['distinct_jobs']:,} distinct jobs, "
        f"{found['queued_in_database']:,} in the database, {found['submits_per_s']} a second. A submission "
        f"{_ms(found['submit_ms'])} ms; a list {_ms(found['lists_meanwhile']['ms'])} ms, without submissions "
        f"{_ms(found['lists_alone']['ms'])}; the worker's heartbeat with an event {_ms(worker['beat_ms'])} ms, "
        f"failed: {worker['failures'] or 'none'}. Peak {found['memory_mb_peak']} MB."
    )


def _ms(found: Json) -> str:
    return f"{found['median']:.1f} / {found['p99']:.1f}" if found["n"] else "–"


SHOWN = {"listing": _listing, "streams": _streams, "uploads": _uploads, "submits": _submits}
