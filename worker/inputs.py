"""What a training needs, brought to this machine: the dataset once per digest, the encoder of a generator, the
checkpoint, the job file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.errors import BlobDamaged, DatasetUnavailable, SourceGone
from service.settings import Settings
from service.store import Store, cache, datasets, encoders
from service.store.jobs import Job

log = logging.getLogger(__name__)

FOR_CHILD = {"checkpoint_every_s", "export_onnx", "log_level"}
"""Settings that a training may know."""


def prepare(store: Store, settings: Settings, job: Job, scratch: Path) -> Path:
    """Fetch everything and write ``job.json`` into ``scratch``; its path.

    Raises DatasetUnavailable if an uploaded dataset is gone, SourceGone if the encoder of a generator is.
    """
    resume = _checkpoint(store, job, scratch)
    body = {
        "spec": job.spec,
        "resolved": job.resolved,
        "kind": job.kind,
        "dataset": _dataset(store, settings, job),
        "source": _source(store, job, scratch),
        "resume": str(resume) if resume else None,
        "settings": settings.model_dump(include=FOR_CHILD),
    }
    path = scratch / "job.json"
    path.write_text(json.dumps(body))
    return path


def _dataset(store: Store, settings: Settings, job: Job) -> dict[str, Any]:
    name = job.spec["dataset"]
    with store.session() as tx:
        uploaded = datasets.get(tx, name)
    if uploaded is None:
        return {
            "kind": "builtin",
            "name": name,
            "root": str(settings.datasets_root),
            "allow_downloads": settings.allow_downloads,
        }
    if uploaded.state != "ready" or not uploaded.blob_digest or not uploaded.index_digest:
        raise DatasetUnavailable(f"The dataset {name} is not ready; upload it again and retry the job.")
    kept = settings.data_dir / "cache"
    path, index = (
        _fetch_once(store, digest, kept / "datasets")
        for digest in (uploaded.blob_digest, uploaded.index_digest)
    )
    cache.evict(kept, settings.cache_max_bytes)
    return {
        "kind": "archive",
        "name": name,
        "path": str(path),
        "index": str(index),
        "cache_dir": str(kept / "arrays"),
        "license": uploaded.license,
    }


def _source(store: Store, job: Job, scratch: Path) -> str | None:
    """The directory of the encoder's files, each of them verified; None where the job needs no encoder."""
    if job.source is None:
        return None
    with store.session() as tx:
        encoder = encoders.get_by_ref(tx, job.source)
    if encoder is None:
        raise SourceGone
    directory = scratch / "source"
    directory.mkdir(exist_ok=True)
    for name, file in encoder.files.items():
        store.blobs.fetch(file.digest, directory / name)
    return str(directory)


def _fetch_once(store: Store, digest: str, room: Path) -> Path:
    """The blob as a local file; its time says that it was used now. A copy that lay there is hashed again."""
    path = room / digest.removeprefix("sha256:")
    with suppress(FileNotFoundError):
        os.utime(path)
        if _is_whole(path, digest):
            return path
        log.warning("the cached copy of the blob %s is damaged and is fetched anew", digest)
    room.mkdir(parents=True, exist_ok=True)
    return store.blobs.fetch(digest, path, durable=True)


def _is_whole(path: Path, digest: str) -> bool:
    """Read anew for each job: a disk that changes a byte changes no time."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest


def _checkpoint(store: Store, job: Job, scratch: Path) -> Path | None:
    """The checkpoint to go on from; a damaged one costs the work since the start, not the job."""
    if job.checkpoint_digest is None:
        return None
    try:
        return store.blobs.fetch(job.checkpoint_digest, scratch / "resume.safetensors")
    except BlobDamaged as error:
        log.warning("job %s: its checkpoint cannot be read, starting without: %s", job.id, error)
        return None
