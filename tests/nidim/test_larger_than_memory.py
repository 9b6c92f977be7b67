"""A set that is larger than all the memory that a process may still take is trained on where it lies.

The tests run this file in a process that limits its own data (RLIMIT_DATA: what it writes to, not the files that it
maps) to what the imports took and a little room; the array is larger than the room. Of the training there are the first
two steps of the epoch and, resumed near the end, its last two, because a whole one takes minutes; the statistics after
it and the embeddings go over every image.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nidim.capacity import resolve
from nidim.checkpoint import Checkpoint
from nidim.embedding import embed
from nidim.spec import DatasetFacts, TrainSpec
from nidim.train import Fitted, fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere RLIMIT_DATA leaves memory maps out"),
]

ROOM, EXCESS = 192 << 20, 1.1
SIDE, HELDOUT = 16, 64
LIT = 1 / 64
"""Of the images, the first, have pixels; the others are dark, the hole of a sparse file."""


def limit_memory() -> None:
    """From now on this process has ROOM bytes beyond what it has."""
    used = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert used is not None
    limit = int(used[1]) * 1024 + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def large_set(path: Path, more_than: float) -> NDArray[np.uint8]:
    """A memory map (n, h, w, c) of that many bytes."""
    n = int(more_than) // (3 * SIDE**2) + 1
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, SIDE, SIDE, 3))
    lit = written[: int(LIT * n)]
    lit[:] = np.random.default_rng(0).integers(0, 256, lit.shape, dtype=np.uint8)
    written.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def train(images: NDArray[np.uint8]) -> Fitted:
    """The beginning and the end of one epoch."""
    facts = DatasetFacts(
        name="large", n_train=len(images), n_test=HELDOUT, height=SIDE, width=SIDE, channels=3
    )
    spec = TrainSpec.model_validate(
        {
            "dataset": "large",
            "image_size": SIDE,
            "encoder": {"kind": "conv", "dim": 2, "width": 4},
            "epochs": 1,
            "batch_size": 256,
            "precision": "float32",
        }
    ).filled(facts)
    resolved, _ = resolve(spec, facts)
    heldout = images[:HELDOUT]
    begun: list[Checkpoint] = []
    asked = iter([False, False, True])
    fit(spec, resolved, images, heldout=heldout, on_checkpoint=begun.append, should_stop=lambda: next(asked))
    near_the_end = {**begun[0].meta, "step": resolved.steps_per_epoch - 2}
    resume = dataclasses.replace(begun[0], meta=near_the_end)
    return fit(spec, resolved, images, heldout=heldout, resume=resume)


def trained(images: NDArray[np.uint8]) -> dict[str, Any]:
    """What came of the set."""
    fitted = train(images)
    z = embed(fitted.model, images)
    return {"mi_nats": fitted.mi_nats, "rows": len(z), "mean": z.mean(0).tolist(), "var": z.var(0).tolist()}


def copied(images: NDArray[np.uint8]) -> dict[str, Any]:
    """Whether the set fits into memory."""
    try:
        return {"fits": bool(np.array(images).size)}
    except MemoryError:
        return {"fits": False}


def main(what: str, path: str) -> None:
    """In the limited process: train on the set, or copy it into memory."""
    torch.set_num_threads(1)
    limit_memory()
    images = large_set(Path(path), EXCESS * ROOM)
    found = trained(images) if what == "train" else copied(images)
    sys.stdout.write(json.dumps({"bytes": images.nbytes, "n": len(images), **found}))


def limited(what: str, path: Path) -> dict[str, Any]:
    """What the limited process found."""
    done = subprocess.run(
        [sys.executable, __file__, what, str(path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    path.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bytes"] > ROOM
    return found


def test_a_set_larger_than_memory_is_trained_on(tmp_path: Path) -> None:
    found = limited("train", tmp_path / "large.npy")
    assert found["mi_nats"] is not None
    assert found["rows"] == found["n"]
    assert found["mean"] == pytest.approx([0, 0], abs=0.05)
    assert found["var"] == pytest.approx([1, 1], abs=0.05)


def test_the_limit_bites(tmp_path: Path) -> None:
    """Were the set copied into memory anywhere, the test above would fail."""
    assert limited("copy", tmp_path / "large.npy")["fits"] is False


if __name__ == "__main__":
    main(*sys.argv[1:])
