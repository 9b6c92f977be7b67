"""Cost as work grows: seconds and peak memory over images, their size, the dimension and the batch."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.speed.measure import Json, row, significant, store, surroundings, told
from benchmarks.speed.peers import ROOT

SEED, ROUNDS = 0, 3
LONG = 1_000_000
"""Images of which an epoch is trained once only."""
LIMIT_IS = (
    "forward, backward and optimiser of the same encoder on random tensors, after ours in the same process"
)
POINTS = 3
"""The largest of a series, which its exponents are fitted to."""
LINEAR = 0.1
"""An exponent counts as 1, or as 0, within so much."""
CONV = {"kind": "conv", "dim": 16}
NARROW = {**CONV, "width": 8}
COUNTS = (1_000, 10_000, 100_000, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one kind of growth; ``given`` makes the request of a point from its place ``x``.

    ``of``: what x is; ``per``: what the seconds are of.
    """

    title: str
    work: str
    of: str
    places: tuple[int, ...]
    fixed: dict[str, Any]
    per: str
    why: str = ""
    """What explains the exponents."""

    def request(self, x: int, *, rounds: int) -> dict[str, Any]:
        """What ``growth_point`` is asked."""
        rounds = 1 if self.work == "epoch" and x >= LONG else rounds
        given: dict[str, Any] = {"work": self.work, "rounds": rounds, "steps": 3, "channels": 1, **self.fixed}
        if self.of == "n":
            given["n"] = x
            given["batch"] = min(512, x)
        elif self.of == "pixels":
            given["side"] = x
        elif self.of == "d":
            given["encoder"] = {**given["encoder"], "dim": x}
        else:
            given["batch"] = x
            given["n"] = 2 * x
        return given

    def size(self, x: int) -> int:
        """What grows: for an image its pixels, not its side."""
        return x * x if self.of == "pixels" else x


ONE_STEP = {"encoder": CONV, "n": 512, "batch": 64, "side": 28}
SERIES = (
    Series("reading and feeding, 8×8", "feed", "n", COUNTS, {"side": 8}, "an epoch"),
    Series("reading and feeding, 28×28", "feed", "n", COUNTS, {"side": 28}, "an epoch"),
    Series("training, 8×8", "epoch", "n", COUNTS, {"side": 8, "encoder": NARROW}, "an epoch"),
    Series("training, 28×28", "epoch", "n", COUNTS, {"side": 28, "encoder": NARROW}, "an epoch"),
    Series(
        "image size", "step", "pixels", (8, 16, 32, 64, 128, 224), {**ONE_STEP, "channels": 3}, "a step"
    ),
    Series(
        "dimension", "step", "d", (2, 8, 32, 128, 512, 1024), {**ONE_STEP, "n": 2048, "batch": 512}, "a step"
    ),
    Series(
        "batch", "step", "batch", (256, 1024, 4096, 8192, 16_384, 32_768),
        {"side": 8, "encoder": NARROW}, "a step",
        " Every image is told from every other of its batch, so the scores of the critic grow as its square, in blocks "
        "that bound the memory.",
    ),
)  # fmt: skip


def main(small_trial: bool) -> list[Json]:
    """Every series; stored as ``growth`` unless it is a trial."""
    where = {**surroundings(SEED), "threads": torch.get_num_threads()}
    rows, sentences = [], []
    for series in SERIES:
        places = series.places[:3] if small_trial else series.places
        points = [(x, ask(series.request(x, rounds=1 if small_trial else ROUNDS))) for x in places]
        rows += told([_row(series, x, found) for x, found in points])
        sentences.append(_sentence(series, points))
    if not small_trial:
        store("growth", rows, where=where, sentences=sentences)
    for said in sentences:
        print(said)
    return rows


def ask(given: dict[str, Any]) -> Json:
    """One point, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.growth_point", json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: Json = json.loads(done.stdout)
    return found


def _row(series: Series, x: int, found: Json) -> Json:
    seconds = found["seconds"]
    images = {"n": x, "batch": x}.get(series.of, series.fixed.get("batch", 1))
    return row(
        f"{series.title}, {series.of} = {series.size(x):,}",
        "s",
        seconds,
        limit=found["limit"],
        limit_is=LIMIT_IS,
        series=series.title,
        x=series.size(x),
        of=series.of,
        per=series.per,
        seconds_an_image=significant(statistics.median(seconds) / images),
        peak_mb=significant(found["peak_mb"]),
    )


def _sentence(series: Series, points: Sequence[tuple[int, Json]]) -> str:
    """How seconds and memory grow over the largest points, where fixed costs hide least."""
    last = points[-POINTS:]
    sizes = [series.size(x) for x, _ in last]
    seconds = exponent(sizes, [float(np.median(found["seconds"])) for _, found in last])
    peaks = [max(found["peak_mb"], 0.1) for _, found in last]
    memory = exponent(sizes, peaks)
    name = "the batch" if series.of == "batch" else series.of
    alone = ""
    if last[0][1]["limit"]:
        bare = exponent(sizes, [float(np.median(found["limit"])) for _, found in last])
        alone = f", those of the encoder alone as {name}^{bare:.2f}"
    return (
        f"{series.title}: from {name} = {sizes[0]:,} to {sizes[-1]:,} the seconds of {series.per} grow as "
        f"{name}^{seconds:.2f} ({_kind(seconds)}){alone}, peak memory as {name}^{memory:.2f} ({_kind(memory)}; "
        f"{peaks[-1]:.0f} MB at the end).{series.why}"
    )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log value over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _kind(found: float) -> str:
    if abs(found) <= LINEAR:
        return "constant"
    if abs(found - 1) <= LINEAR:
        return "linear"
    return "less than linear" if found < 1 else "more than linear"
