"""A preview in a process of its own: ``python -m nidim.data.preview_main --events-fd N``.

As ``nidim.data.ingest_main``, of which it has the pipe, the events and the bounds. The job is ``{source, wanted,
media, out, limits, memory_bytes}``; ``source`` is ``{path, index}`` of an ingested file, or ``{builtin, root}``. What
was asked for lies at ``out``: "npy", "png", or "json", a list of the labels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nidim.data import preview
from nidim.data.index import Index
from nidim.data.ingest_main import Events, main
from nidim.data.limits import ImageLimits


def run(job: dict[str, Any], events: Events) -> None:
    """Do the job."""
    found = _found(job["source"], preview.Wanted(**job["wanted"]), ImageLimits(**job["limits"]))
    Path(job["out"]).write_bytes(_written(found, job["media"]))
    events.send("done")


def _found(source: dict[str, Any], wanted: preview.Wanted, limits: ImageLimits) -> preview.Preview:
    if "builtin" in source:
        from nidim.data.builtin_files import load_builtin

        root = Path(source["root"]) if source["root"] else None
        return preview.of_dataset(load_builtin(source["builtin"], root=root), wanted)
    return preview.of_archive(Path(source["path"]), Index.read(Path(source["index"])), wanted, limits=limits)


def _written(found: preview.Preview, media: str) -> bytes:
    if media == "json":
        return json.dumps(found.labels.tolist()).encode()
    return found.png() if media == "png" else found.npy()


if __name__ == "__main__":
    sys.exit(main(task=run))
