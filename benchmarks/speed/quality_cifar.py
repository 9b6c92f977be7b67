"""Time to quality on CIFAR-10: seconds of training until 90 of 100 test images are recognised by their neighbours.

    python -m benchmarks.speed.quality_cifar --seed 0 [--minutes 9] [--epochs 800] [--with SPEC_JSON] [--small]

For a GPU, and in pieces: a call trains for at most ``--minutes`` and keeps a checkpoint in ``--folder``; the next call
goes on from it. The call that ends a training embeds, asks the 20 nearest training images of each test image (cosine,
each one vote), and writes the seed's line into ``results/speed/quality_cifar.json``, where the seeds are pooled. Only
training counts, with all that belongs to it, compilation at the start of each piece included. One training of a fixed
number of epochs, its last epoch read once, all 50,000 images in training: nothing is chosen by the test images.

The challenge: 1 h 39 min on an A100 by any self-supervised method, https://github.com/dkobak/simclr-cifar10.
``--small`` is a trial on a CPU with 400 images and a small conv net; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.measure import RESULTS, Json, row, significant, store, surroundings
from benchmarks.speed.peers import ROOT
from benchmarks.speed.training_sets import DATASETS
from nidim.capacity import resolve
from nidim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nidim.embedding import embed
from nidim.encoders import EncoderModel
from nidim.evaluate.probes import Split, knn, on_sphere
from nidim.reproduce.sets import SetName, open_set
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.train import fit

SECTION, SIDE = "quality_cifar", 32
WANTED, CHALLENGE_S = 0.90, 99 * 60.0
SPEC: Json = {
    "encoder": {"kind": "resnet18", "dim": 512},
    "method": {"kind": "simclr"},
    "batch_size": 512,
    "epochs": 800,
}
SMALL: Json = {"encoder": {"kind": "conv", "dim": 16, "width": 8}, "batch_size": 64, "epochs": 2}
SMALL_IMAGES = 400


@dataclass(frozen=True)
class Data:
    """Images uint8 (n, 32, 32, 3) with their labels."""

    train: NDArray[np.uint8]
    train_labels: NDArray[Any]
    test: NDArray[np.uint8]
    test_labels: NDArray[Any]

    @property
    def facts(self) -> DatasetFacts:
        return DatasetFacts(
            name="cifar10",
            n_train=len(self.train),
            n_test=len(self.test),
            height=SIDE,
            width=SIDE,
            channels=3,
        )

    def recognised(self, model: EncoderModel) -> float:
        """The share of test images whose 20 nearest training images vote for their class, by cosine."""
        model = model.eval()
        split = Split(
            train=embed(model, self.train),
            train_labels=self.train_labels,
            test=embed(model, self.test),
            test_labels=self.test_labels,
        )
        return knn(on_sphere(split))


@dataclass
class Done:
    """What the pieces so far have taken."""

    seconds: float = 0.0
    pieces: int = 0
    finished: bool = False


def load(datasets_dir: Path, most: int | None) -> Data:
    """CIFAR-10; ``most`` images of each part for a trial."""
    found = open_set(SetName("cifar10-jpeg", SIDE), root=datasets_dir, allow_downloads=False)
    parts = []
    for part in (found.train, found.test):
        rows = np.sort(np.random.default_rng(0).permutation(len(part.images))[:most])
        parts += [np.asarray(part.images[rows]), np.asarray(part.labels)[rows]]
    return Data(*parts)


def specified(data: Data, values: Json, seed: int) -> FullSpec:
    """The training that is timed."""
    asked = {**SPEC, **values, "dataset": "cifar10", "seed": seed}
    return TrainSpec.model_validate(asked).filled(data.facts)


def piece(spec: FullSpec, data: Data, folder: Path, *, most_s: float) -> tuple[Done, EncoderModel]:
    """Train for ``most_s`` seconds, or to the end, from where the piece before stopped.

    Raises CheckpointError if the folder holds a training of another spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, notes = folder / "checkpoint.safetensors", folder / "done.json"
    done = Done(**json.loads(notes.read_text())) if notes.exists() else Done()
    resume = load_checkpoint(checkpoint) if checkpoint.exists() else None

    def keep(found: Checkpoint) -> None:
        save_checkpoint(found, checkpoint)

    began = time.perf_counter()
    fitted = fit(
        spec,
        resolve(spec, data.facts)[0],
        data.train,
        heldout=data.test[:0],
        on_checkpoint=keep,
        should_stop=lambda: time.perf_counter() - began > most_s,
        resume=resume,
        checkpoint_every_s=float("inf"),
    )
    done = Done(done.seconds + time.perf_counter() - began, done.pieces + 1, fitted.finished)
    notes.write_text(json.dumps(asdict(done)))
    return done, fitted.model


def pooled(runs: list[Json], where: Json, path: Path) -> None:
    """All seeds so far as the section's results."""
    passed = all(run["accuracy"] >= WANTED for run in runs)
    rows = [
        row(
            f"CIFAR-10 to {WANTED:.0%} by 20 neighbours, ResNet-18",
            "s",
            [run["seconds"] for run in runs],
            peers={"the open challenge, on an A100": [CHALLENGE_S]},
            asked="sooner than the challenge",
            met=passed and max(run["seconds"] for run in runs) < CHALLENGE_S,
            runs=runs,
        )
    ]
    said = [
        f"Seed {run['seed']}: {run['accuracy']:.3f} after {run['epochs']} epochs in {run['seconds']:.0f} s, "
        f"{run['pieces']} pieces."
        for run in runs
    ]
    store(SECTION, rows, where=where, sentences=said, file=path)


def main() -> None:
    """One piece of one seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call (default 9)")
    parser.add_argument("--epochs", type=int, help=f"of the whole training (default {SPEC['epochs']})")
    parser.add_argument(
        "--with", dest="more", type=json.loads, default={}, help="fields of the spec, as JSON"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / SECTION, help="for checkpoints")
    parser.add_argument(
        "--datasets-dir", type=Path, default=DATASETS, help="where cifar10-jpeg.zip is, or above it"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS / f"{SECTION}.json", help="where seeds are pooled"
    )
    parser.add_argument("--small", action="store_true", help="a trial of the script; stores nothing")
    given = parser.parse_args()
    command = f"python -m benchmarks.speed.quality_cifar --seed {given.seed}"
    where = {**surroundings(given.seed), "command": command, "gpu": _gpu()}
    data = load(given.datasets_dir, SMALL_IMAGES if given.small else None)
    values = {**(SMALL if given.small else {}), **given.more}
    if given.epochs:
        values["epochs"] = given.epochs
    spec = specified(data, values, given.seed)
    done, model = piece(
        spec,
        data,
        given.folder / f"{'small-' if given.small else ''}seed-{given.seed}",
        most_s=60 * given.minutes,
    )
    if not done.finished:
        print(f"{done.seconds:.0f} s in {done.pieces} pieces; not at its end: the same command goes on")
        return
    found = {**asdict(done), "seconds": significant(done.seconds), "seed": given.seed, "epochs": spec.epochs}
    found["accuracy"] = round(data.recognised(model), 4)
    print(json.dumps(found))
    if not given.small:
        before = json.loads(given.results.read_text())["rows"][0]["runs"] if given.results.exists() else []
        runs = [run for run in before if run["seed"] != given.seed] + [found]
        pooled(sorted(runs, key=lambda run: run["seed"]), where, given.results)


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


if __name__ == "__main__":
    main()
