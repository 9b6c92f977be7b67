"""Seconds of one step of fit over the ranks that torchrun has started: ``… -m benchmarks.speed.scaling_point JSON``.

The first rank answers with one JSON object. Without torchrun it is one process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from benchmarks.speed.training_sets import CASES, Training, load_images, small
from nidim.ranks import join
from nidim.train import fit
from nidim.world import World

SEED = 0


def seconds(world: World, *, case: int, small_trial: bool, batch: int, steps: int) -> float:
    """Of one step, after one that does not count."""
    chosen = small(CASES[case]) if small_trial else CASES[case]
    images, _ = load_images(chosen, None)
    precision = "bfloat16" if torch.cuda.is_available() else "float32"
    training = Training(chosen, images, "infomax", SEED, batch_size=batch, precision=precision)
    marks: list[float] = []

    def should_stop() -> bool:
        if torch.cuda.is_available() and len(marks) in (1, steps + 1):
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        return len(marks) == steps + 2

    fit(training.spec, training.resolved, images, heldout=images[:0], should_stop=should_stop, world=world)
    return (marks[-1] - marks[1]) / steps


def main() -> None:
    """Do what the argument asks for."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    world = join()
    found = seconds(world, small_trial=given.pop("small"), **given)
    if world.leads:
        print(json.dumps({"seconds": found}), flush=True)
    world.leave()


if __name__ == "__main__":
    main()
