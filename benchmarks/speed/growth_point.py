"""One point of a series of growth, in a process of its own: ``python -m benchmarks.speed.growth_point JSON``.

Answers with one JSON object: seconds of each round, and by how many MB the peak rose above what was resident before
the work. Pages of a mapped file are the system's cache and not counted. Steps have a limit beside them: as many of the
encoder alone on random tensors.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.training_steps import bare_steps
from nidim.build import build_encoder, build_optimizer
from nidim.capacity import Resolved, resolve
from nidim.feed import Feed
from nidim.hardware import to_layout
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.train import Images, fit

SAMPLE_EVERY_S = 0.005
BLOCK = 10_000
"""Images that are written at a time."""


class Peak:
    """The highest anonymous resident memory while it watches, MB above what it was at the start."""

    def __enter__(self) -> Peak:
        self.before = self.highest = anonymous_mb()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.highest = max(self.highest, anonymous_mb())

    @property
    def mb(self) -> float:
        return self.highest - self.before


def anonymous_mb() -> float:
    """Memory of the process that is no file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e3


def written(n: int, side: int, channels: int, folder: Path) -> Images:
    """n random images in a mapped file, in the cache of the system."""
    path, rng = folder / "images.npy", np.random.default_rng(0)
    shape = (n, side, side, channels)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for low in range(0, n, BLOCK):
        high = min(low + BLOCK, n)
        file[low:high] = rng.integers(0, 256, (high - low, *shape[1:]), dtype=np.uint8)
    file.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def feed(images: Images, *, n: int, **_: Any) -> float:
    """Read and scale every image once, in the shuffled order of an epoch."""
    batches = Feed(images, batch_size=min(512, n), seed=0, device=torch.device("cpu"))
    began = time.perf_counter()
    for batch in batches.batches(0, batches.steps_per_epoch):
        batch.images.shape  # noqa: B018  the work was done before it came
    return time.perf_counter() - began


def epoch(images: Images, **given: Any) -> float:
    """A whole fit of one epoch: steps, and the statistics over all images after them."""
    spec, resolved = specified(images, **given)
    began = time.perf_counter()
    fit(spec, resolved, images, heldout=images[:0])
    return time.perf_counter() - began


def step(images: Images, *, steps: int, **given: Any) -> float:
    """Seconds of one step of fit, after one that does not count."""
    spec, resolved = specified(images, epochs=steps + 2, **given)
    marks: list[float] = []

    def should_stop() -> bool:
        marks.append(time.perf_counter())
        return len(marks) == steps + 2

    fit(spec, resolved, images, heldout=images[:0], should_stop=should_stop)
    return (marks[-1] - marks[1]) / steps


def bare(images: Images, *, steps: int, **given: Any) -> float:
    """Seconds of one step of the encoder alone, after one that does not count."""
    spec, resolved = specified(images, epochs=steps + 2, **given)
    model = build_encoder(spec, resolved).train()
    layout = torch.channels_last if resolved.channels_last else torch.contiguous_format
    to_layout(model, layout)
    _, side, _, channels = images.shape
    views = torch.rand(2, resolved.batch_size, channels, side, side)
    first, second = (view.contiguous(memory_format=layout) for view in views)
    optimizer = build_optimizer(spec.optimizer, model)
    return bare_steps(model, optimizer, first, second, steps=steps) / steps


def specified(
    images: Images, *, n: int, batch: int, encoder: dict[str, Any], epochs: int = 1, **_: Any
) -> tuple[FullSpec, Resolved]:
    """Deep InfoMax with noise, in float32 so that no point chooses another precision."""
    _, side, _, channels = images.shape
    facts = DatasetFacts(
        name="noise", n_train=n, n_test=0, height=side, width=side, channels=3 if channels == 3 else 1
    )
    values = {"dataset": "noise", "image_size": side, "batch_size": batch, "encoder": encoder}
    fixed = {"epochs": epochs, "precision": "float32", "method": {"kind": "infomax"}}
    spec = TrainSpec.model_validate({**values, **fixed}).filled(facts)
    return spec, resolve(spec, facts)[0]


WORK: dict[str, Callable[..., float]] = {"feed": feed, "epoch": epoch, "step": step}


def main() -> None:
    """Do what the argument asks for, as often as it says."""
    given = json.loads(sys.argv[1])
    work, rounds = WORK[given.pop("work")], given.pop("rounds")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        images = written(given["n"], given.pop("side"), given.pop("channels"), Path(folder))
        with Peak() as peak:
            seconds = [work(images, **given) for _ in range(rounds)]
        limit = [bare(images, **given) for _ in range(rounds)] if work is step else None
    print(json.dumps({"seconds": seconds, "limit": limit, "peak_mb": peak.mb}))


if __name__ == "__main__":
    main()
