"""Open a file or folder of images in one call: for the command line and notebooks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nidim.data.index import Index
from nidim.data.ingestion import file_digest, ingest
from nidim.data.limits import DEFAULT_LIMITS, ImageLimits
from nidim.data.materialise import load_archive
from nidim.data.progress import Progress
from nidim.data.sets import Dataset
from nidim.errors import DataError


def open_path(
    path: Path,
    *,
    name: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    cache_dir: Path | None = None,
    license: str | None = None,  # noqa: A002
    limits: ImageLimits = DEFAULT_LIMITS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """A folder of images, or a zip, tar, tar.gz, npz, npy or parquet file, as a dataset.

    Index and arrays are kept in ``cache_dir`` (default: ``nidim`` in the user's cache folder), so that a second
    call is quick. Raises DataError when nothing usable is there.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    cache = cache_dir or default_cache_dir()
    index = _cached_index(path, cache, limits=limits, seed=seed, progress=progress)
    return load_archive(
        path,
        index,
        name=name or name_of(path),
        cache_dir=cache,
        image_size=image_size,
        channels=channels,
        license=license,
        limits=limits,
        progress=progress,
    )


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/nidim`` or ``~/.cache/nidim``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nidim"


def name_of(path: Path) -> str:
    """A dataset name from a file name: lower case, only letters, digits, dot, dash and underscore."""
    stem = path.resolve().name.lower().split(".")[0]
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:63] or "images"


def _cached_index(
    path: Path, cache: Path, *, limits: ImageLimits, seed: int, progress: Progress | None
) -> Index:
    digest = file_digest(path)
    kept = cache / f"index-{digest.removeprefix('sha256:')[:32]}-{seed}.json"
    if kept.is_file():
        return Index.read(kept)
    index = ingest(path, limits=limits, seed=seed, progress=progress, digest=digest)
    cache.mkdir(parents=True, exist_ok=True)
    index.write(kept)
    return index
