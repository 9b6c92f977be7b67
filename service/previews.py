"""Some images of a dataset, to look at: read in a killable process like an upload, a few at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import DatasetUnavailable
from service.ingest import PREVIEW, IngestFailed, run_child
from service.ingestion import image_limits
from service.refusals import Overloaded
from service.settings import Settings
from service.state import Services
from service.store import Store, cache
from service.store.datasets import Dataset

AT_A_TIME = 2
MAX_WAITING = 32
TIMEOUT_S = 30.0
MEMORY_BYTES = 3 << 30
MAX_BYTES = 32 << 20
"""Of pixels in one preview."""


@dataclass(frozen=True)
class Preview:
    """Rows [offset, offset + limit) of ``split``, squares of ``size`` pixels, as "npy", "png" or "json" (labels)."""

    split: str
    offset: int
    limit: int
    size: int
    media: str

    def etag(self, content: str) -> str:
        """Of this preview of a dataset with that content."""
        text = json.dumps([content, dataclasses.astuple(self)])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


class Turns:
    """Of previews in this process: at most ``AT_A_TIME``, a bounded number waits."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_A_TIME)
        self._here = 0

    async def __aenter__(self) -> None:
        if self._here >= AT_A_TIME + MAX_WAITING:
            raise Overloaded("Too many previews are being made; try again later.", retry_after_s=2)
        self._here += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._here -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._here -= 1
        self._free.release()


async def make(app: Services, name: str, row: Dataset | None, wanted: Preview) -> bytes:
    """The preview; ``row`` is None for a built-in. Raises DatasetUnavailable, Overloaded, BlobsUnavailable."""
    async with app.previews:
        return await app.blob_threads.run(_made, app, name, row, wanted)


def _made(app: Services, name: str, row: Dataset | None, wanted: Preview) -> bytes:
    with tempfile.TemporaryDirectory(dir=app.ingestions.scratch, prefix="preview-") as directory:
        out = Path(directory) / "preview"
        rows = {key: getattr(wanted, key) for key in ("split", "offset", "limit", "size")}
        job = {
            "source": _source(app.store, app.settings, name, row),
            "wanted": rows,
            "media": wanted.media,
            "out": str(out),
            "limits": dataclasses.asdict(image_limits(app.settings)),
            "memory_bytes": MEMORY_BYTES,
        }
        try:
            run_child(job, module=PREVIEW, deadline=time.monotonic() + TIMEOUT_S)
        except IngestFailed as error:
            raise DatasetUnavailable(f"The images of {name} cannot be shown: {_why(error)}") from error
        return out.read_bytes()


def _why(error: IngestFailed) -> str:
    if error.code == "ingest_timeout":
        return f"reading so far into the file takes more than {TIMEOUT_S:.0f} s."
    return error.message


def _source(store: Store, settings: Settings, name: str, row: Dataset | None) -> dict[str, Any]:
    if row is None:
        return {"builtin": name, "root": str(settings.datasets_root)}
    assert row.blob_digest is not None
    assert row.index_digest is not None
    kept = settings.data_dir / "cache"
    path, index = (_local(store, digest, kept / "datasets") for digest in (row.blob_digest, row.index_digest))
    cache.evict(kept, settings.cache_max_bytes)
    return {"path": str(path), "index": str(index)}


def _local(store: Store, digest: str, room: Path) -> Path:
    """The blob as a file of this machine; one from elsewhere stays in the cache, where a training finds it too."""
    if path := store.blobs.local(digest):
        return path
    path = room / digest.removeprefix("sha256:")
    if path.is_file():
        return path
    room.mkdir(parents=True, exist_ok=True)
    return store.blobs.fetch(digest, path, durable=True)
