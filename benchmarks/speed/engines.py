"""The forward pass of the same encoders in torch, ONNX Runtime and OpenVINO, in turns: time, parity, loading, memory.

Each engine has a process of its own for each encoder and number of threads, all in float32. *nidim* is ONNX Runtime as
the service runs it; the peer *torch* is what it runs where that is not possible.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.measure import Json, in_turns, ratio, row, significant, store, surroundings
from benchmarks.speed.peers import Peer
from nidim import bundle
from nidim.build import build_encoder
from nidim.capacity import resolve
from nidim.onnx_run import PARITY, difference
from nidim.priors import make_prior
from nidim.spec import DatasetFacts, TrainSpec

SEED = 0
OURS, TORCH = "onnxruntime", "torch"
ENGINES = (OURS, TORCH, "torch channels_last", "torch.compile", "openvino")
PEERS_OWN = "openvino"
BATCHES = (1, 8, 64)
ALONE = (1, 2, 7)
"""Batches whose rows are compared with those of all images together."""
SEEN = 8
"""Images that the running statistics of an encoder have seen."""
LEAST_S = 0.05
"""Of one timing: short passes are repeated."""
GAIN = 1.2


@dataclass(frozen=True)
class Case:
    """An encoder, and how much of it is measured: the large ones take long, and to compile a size takes minutes."""

    title: str
    kind: str
    side: int
    channels: int
    dim: int
    most: int = 64
    compiles: bool = True


CASES = (
    Case("conv net, MNIST", "conv", 28, 1, 16),
    Case("ResNet-18, 32 px, CIFAR stem", "resnet18", 32, 3, 64, compiles=False),
    Case("ResNet-18, 64 px, CIFAR stem", "resnet18", 64, 3, 64, compiles=False),
    Case("ResNet-50, 224 px", "resnet50", 224, 3, 128, most=8, compiles=False),
)


def main(small: bool = False) -> None:
    """Measure all cases; store them unless it is a trial."""
    where = surroundings(SEED, ("onnxruntime",))
    rows: list[Json] = []
    for case in CASES[:1] if small else CASES:
        with tempfile.TemporaryDirectory(prefix="nidim-speed-") as folder:
            write(case, Path(folder) / "encoder")
            for threads in (1,) if small else (1, 2):
                rows += measured(case, Path(folder) / "encoder", threads, rounds=1 if small else 3)
    if small:
        print(json.dumps(rows, indent=1))
    else:
        print(store("engines", rows, where=where, gain_asked=GAIN))


def write(case: Case, directory: Path) -> None:
    """The encoder without training, but for its statistics, and images to embed."""
    draws = np.random.default_rng(SEED)
    images = draws.integers(0, 256, (case.most, case.side, case.side, case.channels), dtype=np.uint8)
    size = {"height": case.side, "width": case.side, "channels": case.channels}
    facts = DatasetFacts.model_validate({"name": "noise", "n_train": 50_000, "n_test": 10_000, **size})
    encoder = {"kind": case.kind, "dim": case.dim}
    spec = TrainSpec.model_validate({"dataset": "noise", "image_size": case.side, "encoder": encoder}).filled(
        facts
    )
    resolved, prior = resolve(spec, facts)[0], make_prior(spec)
    torch.manual_seed(SEED)
    model = build_encoder(spec, resolved, prior)
    with torch.no_grad():
        for _ in range(
            2
        ):  # not the moments of a few noises alone: they hardly differ, and would be divided by it
            model.embed_uint8(torch.from_numpy(images[:SEEN]))
    bundle.save(
        directory,
        model=model.eval(),
        prior=prior,
        spec=spec,
        resolved=resolved,
        report={},
        page="",
        card="",
        provenance={},
        sample=images[:SEEN],
    )
    np.save(directory / "images.npy", images)


def measured(case: Case, directory: Path, threads: int, *, rounds: int) -> list[Json]:
    """A row for each batch, one for loading and one for memory."""
    names = [name for name in ENGINES if case.compiles or name != "torch.compile"]
    title = f"{case.title}, {threads} thread{'s' if threads > 1 else ''}"
    with processes(names, threads) as engines:
        loaded = {
            name: peer.ask("load", engine=name, directory=str(directory), threads=threads)
            for name, peer in engines.items()
        }
        facts = agreement(engines, directory)
        print(title, "loaded", flush=True)
        rows = [
            one_batch(f"{title}, batch {batch}", engines, batch, rounds=rounds, **facts)
            for batch in BATCHES
            if batch <= case.most
        ]
        peak = {
            name: loaded[name]["peak_mb"] + peer.ask("first", batch=case.most)["peak_mb"]
            for name, peer in engines.items()
        }
    seconds = {name: [found["seconds"]] for name, found in loaded.items()}
    return [
        *rows,
        beside(f"{title}: import and load", "s", seconds),
        beside(
            f"{title}: memory, library and batch {case.most}",
            "MB",
            {name: [mb] for name, mb in peak.items()},
        ),
    ]


@contextlib.contextmanager
def processes(names: list[str], threads: int) -> Iterator[dict[str, Peer]]:
    """One for each engine."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Peer(
                    "engines",
                    threads=threads,
                    interpreter=None if name == PEERS_OWN else Path(sys.executable),
                )
            )
            for name in names
        }


def agreement(engines: Mapping[str, Peer], directory: Path) -> dict[str, dict[str, float]]:
    """Of each engine the difference from torch, and that of a row alone from the same row in a batch."""
    rows, batching = {}, {}
    for name, peer in engines.items():
        path = directory / f"rows-{name}.npy"
        batching[name] = significant(peer.ask("rows", path=str(path), batches=ALONE)["result"]["batching"])
        rows[name] = np.load(path, allow_pickle=False)
    parity = {name: significant(difference(found, rows[TORCH])) for name, found in rows.items()}
    return {"parity": parity, "batching": batching}


def one_batch(what: str, engines: Mapping[str, Peer], batch: int, *, rounds: int, **facts: Any) -> Json:
    """Milliseconds of a pass in each engine, taking turns."""
    cpu: dict[str, list[float]] = {name: [] for name in engines}

    def turn(name: str, repeats: int) -> float:
        found = engines[name].ask("forward", batch=batch, repeats=repeats)
        cpu[name].append(found["result"]["cpu_s"])
        return float(found["seconds"])

    compiled = {
        name: significant(peer.ask("first", batch=batch)["seconds"]) for name, peer in engines.items()
    }
    repeats = {name: max(1, int(LEAST_S / turn(name, 1))) for name in engines}
    for timings in cpu.values():
        timings.clear()
    seconds = in_turns(
        {name: lambda name=name: turn(name, repeats[name]) for name in engines}, rounds=rounds, warm_up=0
    )
    found = beside(what, "ms", {name: [1e3 * value for value in values] for name, values in seconds.items()})
    gain = ratio(seconds[TORCH], seconds[OURS])
    found |= {"asked": f"≥ {GAIN} × torch, the same to {PARITY:g}"}
    found |= {"met": gain >= GAIN and facts["parity"][OURS] <= PARITY}
    times = {name: significant(1e3 * float(np.median(values))) for name, values in cpu.items()}
    return {**found, "cpu_ms": times, "first_s": compiled, **facts}


def beside(what: str, unit: str, values: Mapping[str, list[float]]) -> Json:
    """A row of ours and all others."""
    return row(what, unit, values[OURS], peers={k: v for k, v in values.items() if k != OURS})
