"""From stored files to vectors, draws and scores. No HTTP, no queue.

Torch arrives with the first encoder that needs it (``service.inference.runtimes``), SciPy with the first law: nothing
imports them before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nidim.capacity import Resolved
from service.errors import BlobDamaged, BlobMissing
from service.inference.runtimes import EngineChoice, opened
from service.store import Blobs
from service.store.damage import CHANGED, GONE
from service.store.encoders import Encoder

if TYPE_CHECKING:
    from nidim.conformal import Conformal
    from nidim.priors import Prior
    from nidim.stored import Manifest

Rows = NDArray[np.float32]
PAGE_VALUES = 1 << 18
"""Values of one page of a streamed draw: 1 MiB as float32."""


class Damaged(Exception):
    """The stored files of an encoder are not what was registered; ``file`` is the one to blame, if it is one."""

    def __init__(self, detail: str, file: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.file = detail, file


@dataclass(frozen=True)
class Loaded:
    """An encoder in memory; ``forward`` maps uint8 (n, size, size, channels) to float32 (n, dim).

    Of a generator ``forward`` maps conditions and noise, float32, to pixels (n, dim). ``engine``: the library that
    computes it.
    """

    forward: Callable[[NDArray[Any]], Rows]
    dim: int
    size: int
    channels: int
    size_bytes: int
    executor: ThreadPoolExecutor
    engine: str = "torch"


def load(
    encoder: Encoder,
    blobs: Blobs,
    *,
    device: str,
    threads: int,
    scratch: Path,
    engine: EngineChoice = "auto",
) -> Loaded:
    """Fetch, verify and build an encoder. Raises Damaged."""
    from nidim.errors import BundleError

    with tempfile.TemporaryDirectory(dir=scratch, prefix="encoder-") as directory:
        for name, file in encoder.files.items():
            fetch(blobs, file.digest, Path(directory) / name)
        try:
            found = opened(Path(directory), manifest(encoder), device=device, threads=threads, engine=engine)
        except BundleError as error:
            raise Damaged("the files do not fit together") from error
    return Loaded(
        forward=found.embed,
        dim=encoder.dim,
        size=found.preprocessing.image_size,
        channels=found.preprocessing.channels,
        size_bytes=encoder.size_bytes,
        executor=ThreadPoolExecutor(1, thread_name_prefix="forward", initializer=found.pin),
        engine=found.engine,
    )


def fetch(blobs: Blobs, digest: str, dest: Path) -> None:
    """Fetch and verify one file. Raises Damaged."""
    try:
        blobs.fetch(digest, dest)
    except BlobMissing as error:
        raise Damaged(f"{dest.name} {GONE}", dest.name) from error
    except BlobDamaged as error:
        raise Damaged(f"{dest.name} {CHANGED}", dest.name) from error


def manifest(encoder: Encoder) -> Manifest:
    """What the files of ``encoder`` must be."""
    from nidim.stored import FileEntry, Manifest

    files = {
        name: FileEntry(sha256=file.digest.removeprefix("sha256:"), size=file.size)
        for name, file in encoder.files.items()
    }
    return Manifest(files=files, digest=encoder.digest)


def pages(
    prior: Prior, *, n: int, seed: int, offset: int, temperature: float, values: int = PAGE_VALUES
) -> Iterator[Rows]:
    """Rows [offset, offset + n) of the stream, a bounded number at a time."""
    height = max(1, values // prior.dim)
    for start in range(0, n, height):
        count = min(height, n - start)
        yield prior.sample(count, seed=seed, offset=offset + start, temperature=temperature)


def score(
    prior: Prior, embeddings: Rows, conformal: Conformal | None = None
) -> dict[str, NDArray[np.float64] | None]:
    """log p in nats and the p-values of each row: by theory, and by rank among held-out images where they are known."""
    if len(embeddings) == 0:
        none = np.empty(0)
        return {"log_prob": none, "p_value": none, "p_conformal": None if conformal is None else none}
    return {
        "log_prob": prior.log_prob(embeddings),
        "p_value": prior.p_value(embeddings),
        "p_conformal": None if conformal is None else conformal.p_value(prior.outlyingness(embeddings)),
    }


def noisy(encoder: Encoder, prior: Prior, embeddings: Rows, *, seed: int, offset: int = 0) -> Rows:
    """f(x) + Z, row i from stream (seed, offset + i)."""
    from nidim.noisy import add_noise

    return add_noise(embeddings, prior, Resolved.model_validate(encoder.resolved), seed=seed, offset=offset)
