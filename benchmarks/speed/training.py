"""Training: two-view images a second of the whole fit, against the bare networks, lightly and the paper's critic."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed import training_critics
from benchmarks.speed.measure import Json, in_turns, ratio, row, significant, store, surroundings, told
from benchmarks.speed.peers import Peer
from benchmarks.speed.training_sets import CASES, Case, Training, load_images, small
from benchmarks.speed.training_steps import limit, limit_of_all, run_fit, shares
from nidim.hardware import pick_device

SEED, ROUNDS = 0, 7
OF_LIMIT = 0.85
TIMES_LIGHTLY = {"cpu": 3.0, "cuda": 5.0}
LIMIT_IS = "forward, backward and optimiser of the same encoder, precision and layout on two random batches in memory"
LIGHTLY = "lightly 1.6.0 SimCLR"
TITLES = {"infomax": "Deep InfoMax", "simclr": "SimCLR"}
WAITING = (
    "GPU: none at hand; `python -m benchmarks.speed training` on one stores the same rows as training_gpu."
)

Rates = dict[str, list[float]]


def main(small_trial: bool, datasets_dir: Path | None = None) -> list[Json]:
    """All rows; stored as ``training`` or, with a GPU, ``training_gpu``, unless it is a trial."""
    device = pick_device()
    where = {**surroundings(SEED), "threads": torch.get_num_threads(), "device": device}
    rows, tables = [], []
    with Peer("training", threads=torch.get_num_threads()) as peer:
        for case in CASES:
            found, table = _case(small(case) if small_trial else case, peer, datasets_dir, small_trial)
            rows += told(found)
            tables.append(table)
    rows += told(training_critics.rows(seed=SEED, rounds=2 if small_trial else ROUNDS))
    if not small_trial:
        waiting = {} if device == "cuda" else {"waiting": [WAITING]}
        name = "training_gpu" if device == "cuda" else "training"
        store(name, rows, where=where, step_seconds=tables, sentences=[_sentence(rows)], **waiting)
    return rows


def _case(case: Case, peer: Peer, datasets_dir: Path | None, small_trial: bool) -> tuple[list[Json], Json]:
    """The rows of one network, and where the time of its step goes."""
    images, source = load_images(case, datasets_dir)
    ours = {method: Training(case, images, method, SEED) for method in TITLES}
    run_fit(ours["infomax"], steps=1)  # chooses precision and layout
    ours["simclr"].on_machine_of(ours["infomax"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images)
        rates = _rates(case, ours, peer, path, rounds=2 if small_trial else ROUNDS)
    about = {"images": source, "batch": case.batch_size, **ours["infomax"].chosen()}
    rows = [_row(case, method, rates, **about) for method in ours]
    seconds = {method: _significant(shares(ours[method], steps=case.timed_steps)) for method in ours}
    return rows, {"what": case.title, **about, "seconds_a_step": seconds}


def _rates(case: Case, ours: dict[str, Training], peer: Peer, path: Path, *, rounds: int) -> Rates:
    """Two-view images a second of ours, the limits and lightly, in turns."""
    steps, bare = case.timed_steps, ours["infomax"]
    random, views = bare.random_images(), bare.views()
    given = {"path": str(path), "batch": case.batch_size, "steps": steps, "workers": _cores()}
    seconds = in_turns(
        {
            "infomax": lambda: run_fit(ours["infomax"], steps=steps).seconds,
            "simclr": lambda: run_fit(ours["simclr"], steps=steps).seconds,
            "limit": lambda: limit(bare, random, steps=steps),
            "limit on views": lambda: limit(bare, views, steps=steps),
            "limit of all, infomax": lambda: limit_of_all(ours["infomax"], random, steps=steps),
            "limit of all, simclr": lambda: limit_of_all(ours["simclr"], random, steps=steps),
            LIGHTLY: lambda: float(peer.ask("simclr", **given)["seconds"]),
        },
        rounds=rounds,
        warm_up=0,
    )
    return {name: [steps * case.batch_size / one for one in found] for name, found in seconds.items()}


def _sentence(rows: list[Json]) -> str:
    found = [one for one in rows if "of_limit_of_all_networks" in one]
    each = "; ".join(f"{one['what']} {one['of_limit_of_all_networks']:.2f}" for one in found)
    return f"The limit has the encoder alone. With head and critic in it, which are trained as well: {each}."


def _row(case: Case, method: str, rates: Rates, **about: object) -> Json:
    wanted = TIMES_LIGHTLY[pick_device()]
    found = rates[method]
    return row(
        f"{TITLES[method]} with noise, {case.title}",
        "images/s",
        found,
        limit=rates["limit"],
        limit_is=LIMIT_IS,
        peers={LIGHTLY: rates[LIGHTLY]},
        asked=f">= {OF_LIMIT} of the limit, >= {wanted:g} times lightly",
        met=ratio(found, rates["limit"]) >= OF_LIMIT and ratio(found, rates[LIGHTLY]) >= wanted,
        of_limit_of_all_networks=ratio(found, rates[f"limit of all, {method}"]),
        of_limit_on_views_of_the_images=ratio(found, rates["limit on views"]),
        **about,
    )


def _significant(seconds: dict[str, float]) -> dict[str, float]:
    return {name: significant(value) for name, value in seconds.items()}


def _cores() -> int:
    """Workers of lightly's loader: one a core, as its examples would have on a small machine."""
    return len(os.sched_getaffinity(0))
