"""What watching for drift costs: ``python -m benchmarks.drift_cost BUNDLE`` writes results/drift/cost.json and cost.md.

embed    one forward pass of 64 images, as the server makes it: without decoding, queue and HTTP, which only add to it
feed     what a request does for watching: its 64 rows are left for the next flush
flush    what the thread does once a second: 1,024 rows of one encoder, the most that are watched, into SQLite
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.altered import provenance, table, write
from nidim import bundle
from service.inference.calibrations import Calibrations
from service.inference.drift import MOST_ROWS, Drifts
from service.inference.laws import Laws
from service.settings import Settings
from service.store import Store, encoders, jobs, open_store

RESULTS = Path(__file__).parent / "results" / "drift"
IMAGES, ROUNDS = 64, 30


def best(
    action: Callable[[], object], *, times: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one ``action``: the least of ROUNDS rounds of ``times``, since the machine is shared."""
    found = []
    for _ in range(ROUNDS):
        started = clock()
        for _ in range(times):
            action()
        found.append((clock() - started) / times)
    return min(found)


def registered(store: Store, loaded: bundle.Bundle) -> Any:
    """The encoder as the service knows it."""
    job = {"spec": {}, "resolved": {}, "warnings": [], "encoder": "measured", "priority": "normal"}
    facts = {
        "manifest": {"digest": loaded.digest, "files": {}},
        "report": loaded.report,
        "spec": {},
        "resolved": {},
        "dim": loaded.prior.dim,
        "prior": loaded.prior.describe(),
        "size": 0,
    }
    with store.begin() as tx:
        lease = jobs.take_lease(tx, jobs.create(tx, kind="train", **job).id, owner="bench", lease_s=60)
        assert lease is not None
        made = jobs.succeed(tx, lease, **facts)
        assert made is not None
        found = encoders.get_by_ref(tx, made.id)
    assert found is not None
    return found


def measured(loaded: bundle.Bundle, directory: Path) -> dict[str, float]:
    """Seconds of each."""
    store = open_store(SimpleNamespace(data_dir=directory, database_url="", blob_url=""))
    encoder = registered(store, loaded)
    settings, calibrations, laws = Settings(data_dir=directory), Calibrations(), Laws(store.blobs)
    drifts = Drifts(store, laws, calibrations, settings)
    size, channels = loaded.preprocessing.image_size, loaded.preprocessing.channels
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, channels), dtype=np.uint8)
    rows, many = loaded.embed(images), loaded.prior.sample(MOST_ROWS, seed=0)

    def feeds() -> None:
        fresh = Drifts(store, laws, calibrations, settings)
        for _ in range(MOST_ROWS // IMAGES):
            fresh.feed(encoder, rows)

    def flush() -> None:
        drifts.feed(encoder, many)
        drifts.flush()

    flush()  # imports, and reads the report
    found = {
        "embed_s": best(lambda: loaded.embed(images)),
        "embed_cpu_s": best(lambda: loaded.embed(images), clock=time.process_time),
        "feed_s": best(feeds, times=100) / (MOST_ROWS // IMAGES),
        "flush_s": best(flush),
        "flush_cpu_s": best(flush, clock=time.process_time),
    }
    store.close()
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    given = parser.parse_args()
    loaded = bundle.load(given.bundle)
    with tempfile.TemporaryDirectory() as directory:
        seconds = measured(loaded, Path(directory))
    found = {**seconds, "rounds": ROUNDS, "provenance": provenance(loaded, seed=0)}
    shares = {
        "feed / embed cpu": seconds["feed_s"] / seconds["embed_cpu_s"],
        "flush cpu of a core": seconds["flush_cpu_s"] / Settings.model_fields["drift_flush_s"].default,
    }
    rows = [
        [name.removesuffix("_s").replace("_", " "), f"{1e6 * value:,.1f} µs"]
        for name, value in seconds.items()
    ]
    rows += [[name, f"{100 * value:.3f} %"] for name, value in shares.items()]
    write(
        RESULTS,
        "cost",
        {**found, "shares": shares},
        TEXT.format(
            **found, table=table(["what", "time"], rows), dim=loaded.prior.dim, images=IMAGES, most=MOST_ROWS
        ),
    )


TEXT = """\
# What watching for drift costs

d = {dim}, one thread, the best of {rounds} rounds on a shared machine.

{table}
`embed`: one forward pass of {images} images, without decoding, queue and HTTP. `feed`: what such a request does for
watching. `flush`: what a thread does once a second with at most {most:,} images of an encoder, SQLite included. `cpu`:
without waiting for the disk and for other programs.

`python -m benchmarks.drift_cost`, {provenance[processor]};
bundle `{provenance[bundle]}`.
"""


if __name__ == "__main__":
    main()
