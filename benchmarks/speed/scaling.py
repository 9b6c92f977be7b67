"""Training over several processes: images a second over the ranks, at the same batch, beside as many times one rank."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.speed.measure import Json, in_turns, ratio, row, significant, store, surroundings
from benchmarks.speed.peers import ROOT
from benchmarks.speed.training_sets import CASES, Case

SEED, ROUNDS = 0, 5
COUNTS = (1, 2, 4, 8)
TIMED = 2
"""Of these networks, the first so many of the training section."""
LIMIT_IS = "as many times the images a second of one rank, in the same run"
APART = "as many trainings of their own, each of its share of the batch, at once"
WAITING = (
    "GPUs: none at hand; the figures of several wait for them. `python -m benchmarks.speed scaling` on a machine with "
    "GPUs runs the same trainings, a rank each and by NCCL, and stores them as scaling_gpu."
)

Rates = dict[tuple[int, bool], list[float]]
"""Images a second of so many ranks, together or apart."""


def main(small_trial: bool) -> list[Json]:
    """All rows; stored as ``scaling`` or, with GPUs, ``scaling_gpu``, unless it is a trial."""
    gpus = torch.cuda.device_count()
    counts = [count for count in COUNTS if count <= (gpus or len(os.sched_getaffinity(0)))]
    where = {**surroundings(SEED), "threads": 1}
    rows, sentences = [], []
    for number, case in enumerate(CASES[:TIMED]):
        rates = _rates(number, case, counts, small_trial)
        rows += [_row(case, count, rates) for count in counts]
        sentences += [_sentence(case, count, rates) for count in counts[1:]]
    sentences += [] if gpus else [WAITING]
    if not small_trial:
        store("scaling_gpu" if gpus else "scaling", rows, where=where, sentences=sentences)
    for found in rows:
        print(found["what"], found["ours"], found.get("of_limit"), found.get("peers"))
    for said in sentences:
        print(said)
    return rows


def _rates(number: int, case: Case, counts: Sequence[int], small_trial: bool) -> Rates:
    """Each count in its turn, the ranks of one training and then as many trainings of their own."""
    steps = 2 if small_trial else case.timed_steps
    batch = case.batch_size // 8 if small_trial else case.batch_size
    given = {"case": number, "small": small_trial, "steps": steps}
    works: dict[str, Callable[[], float]] = {}
    for count in counts:
        works[f"{count} together"] = lambda n=count: batch / together({**given, "batch": batch}, n)
        if count > 1:
            works[f"{count} apart"] = lambda n=count: batch / apart({**given, "batch": batch // n}, n)
    found = in_turns(works, rounds=1 if small_trial else ROUNDS, warm_up=0)
    return {(int(name.split()[0]), "together" in name): rates for name, rates in found.items()}


def together(given: Json, count: int) -> float:
    """Seconds of a step over so many ranks, started as a user would."""
    launch = [
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={count}",
        "-m",
        "benchmarks.speed.scaling_point",
    ]
    return _seconds(_start([*launch, json.dumps(given)]))


def apart(given: Json, count: int) -> float:
    """Seconds of a step of so many trainings at once that know nothing of each other, on average."""
    words = ["-m", "benchmarks.speed.scaling_point", json.dumps(given)]
    running = [_start(words, CUDA_VISIBLE_DEVICES=_one_gpu(k)) for k in range(count)]
    return statistics.mean([_seconds(process) for process in running])


def _one_gpu(number: int) -> str:
    """What CUDA_VISIBLE_DEVICES is for one of several trainings."""
    return str(number) if torch.cuda.is_available() else ""


def _start(words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    known = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=known, stdout=subprocess.PIPE, text=True)


def _seconds(process: subprocess.Popen[str]) -> float:
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return float(json.loads(said.splitlines()[-1])["seconds"])


def _row(case: Case, count: int, rates: Rates) -> Json:
    ours, one = rates[count, True], rates[1, True]
    beside: dict[str, Any] = {}
    if count > 1:
        ideal = [count * rate for rate in one]
        beside = {"limit": ideal, "limit_is": LIMIT_IS, "peers": {APART: rates[count, False]}}
    what = f"{case.title}, batch {case.batch_size}, {count} rank{'s' * (count > 1)}"
    return row(what, "images/s", ours, series=case.title, x=count, **beside)


def _sentence(case: Case, count: int, rates: Rates) -> str:
    times = ratio(rates[count, True], rates[1, True])
    alike = ratio(rates[count, True], rates[count, False])
    return (
        f"{case.title}: {count} ranks train {times:.3g} times as fast as one, {significant(times / count):.2f} of the "
        f"ideal, and {alike:.2f} times as fast as {count} trainings that share this machine and nothing else."
    )
