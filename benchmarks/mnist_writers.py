"""How far is MNIST's test set from the law because its writers are others?

    python -m benchmarks.mnist_writers --datasets-dir DIR --dim 16

Trains the default spec, from d = 8 on with fewer epochs, on 55,000 training images drawn at random and judges the law
on images that it was trained on, on the other 5,000, which have the same writers, and on the test set, whose writers
are none of theirs: in the first half those of NIST's SD-3, in the second those of SD-1. Beside the distance as it is:
that of the embeddings moved to mean 0, and whitened. One file a dimension and seed under
benchmarks/results/mnist-writers/; without --dim the stored ones are listed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mnist_choices import HELD_OUT, with_held_out

RESULTS = Path(__file__).resolve().parent / "results" / "mnist-writers"
SHORTER = {
    "epochs": 18,
    "regularizer": {"kind": "sliced_epps_pulley", "bhep": 10.0},
    "augmentation": {"kind": "digits"},
}
"""From d = 8 on, instead of 45 epochs in the second stage, BHEP of weight 25 and views of handwriting."""
FIGURES = {"sw2": ".2f", "centred": ".2f", "whitened": ".2f", "hz_p": ".3f", "mean": ".3f"}


def law_of(z: NDArray[np.floating]) -> dict[str, float]:
    """Sliced W2 to N(0, I) over the floor of as many true draws: as it is, centred, whitened; Henze–Zirkler; ‖mean‖."""
    from nidim.evaluate import henze_zirkler
    from nidim.evaluate.battery import FULL
    from nidim.evaluate.distances import sliced_wasserstein
    from nidim.priors import GaussianPrior

    def ratio(x: NDArray[np.float64]) -> float:
        return sliced_wasserstein(x, x, GaussianPrior(x.shape[1]), settings=FULL.distances)["sw2"].ratio

    x = z.astype(np.float64)
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    p = henze_zirkler.subsample_p(x, subsamples=FULL.hz_subsamples, seed=0)
    return {
        "n": len(x),
        "sw2": ratio(x),
        "centred": ratio(centred),
        "whitened": ratio(centred @ vectors / np.sqrt(values)),
        "hz_p": float(p.mean()),
        "mean": float(np.linalg.norm(x.mean(0))),
    }


def run(dim: int, seed: int, datasets_dir: Path) -> None:
    """One training, one file."""
    from nidim import bundle, pipeline
    from nidim.data import load_builtin
    from nidim.progress import TrainingDisplay
    from nidim.spec import TrainSpec
    from nidim.spec.defaults import REGULARIZED_FROM

    given = {"dataset": "mnist", "encoder": {"kind": "conv", "dim": dim}, "seed": seed}
    spec = TrainSpec.model_validate({**given, **(SHORTER if dim >= REGULARIZED_FROM else {})})
    whole = load_builtin("mnist", root=datasets_dir)
    order = np.random.default_rng(seed).permutation(len(whole.train.images))
    rest, held_out = np.sort(order[HELD_OUT:]), np.sort(order[:HELD_OUT])
    with TrainingDisplay() as display, tempfile.TemporaryDirectory() as out:
        hooks = pipeline.Hooks(on_step=display.step, on_phase=display.phase)
        pipeline.run(spec, with_held_out(whole, rest, held_out), out_dir=Path(out), hooks=hooks)
        encoder = bundle.load(Path(out))
        config = json.loads((Path(out) / "config.json").read_text())
    test = encoder.embed(whole.test.images)
    half = len(test) // 2
    shuffled = test[np.random.default_rng(seed).permutation(len(test))]
    sets = {
        "trained on": encoder.embed(whole.train.images[np.sort(order[-HELD_OUT:])]),
        "held out, of the same writers": encoder.embed(whole.train.images[held_out]),
        "test, half of it at random": shuffled[:half],
        "test, first half (SD-3)": test[:half],
        "test, second half (SD-1)": test[half:],
        "test": test,
    }
    stored = {
        "dim": dim,
        "seed": seed,
        "spec": config["spec"],
        "laws": {name: law_of(z) for name, z in sets.items()},
        "resolved": config["resolved"],
        "provenance": config["provenance"],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"d{dim}-seed{seed}.json").write_text(json.dumps(stored, indent=1))


def table() -> str:
    """The stored runs, in Markdown."""
    lines = [
        "# MNIST's writers",
        "",
        "`python -m benchmarks.mnist_writers --datasets-dir DIR --dim D --seed S`: trained on 55,000 training images "
        "drawn at random; the default spec at d = 2, at d = 16 with 18 epochs in the second stage instead of 45, BHEP "
        "of weight 10 instead of 25 and affine views alone. SW2: of the clean embeddings, over the floor of as many "
        "true draws; centred and whitened: after their own mean, and their own covariance, are taken out. True draws "
        "have Henze–Zirkler p .49 at d = 2 and .32 at d = 16, and a mean of length √(d/n).",
        "",
        "| d | seed | images | n | SW2 / floor | centred | whitened | HZ p | length of the mean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    machines = set()
    for path in sorted(RESULTS.glob("*.json")):
        found: dict[str, Any] = json.loads(path.read_text())
        made = found["provenance"]
        machines.add(f"{made['processor']}, {made['threads']} threads, torch {made['torch']}")
        for images, law in found["laws"].items():
            shown = " | ".join(format(law[name], digits) for name, digits in FIGURES.items())
            lines.append(f"| {found['dim']} | {found['seed']} | {images} | {law['n']:,} | {shown} |")
    return "\n".join([*lines, "", "; ".join(sorted(machines)) + ".", ""])


def main() -> None:
    """Run one dimension when it is named; write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_writers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--datasets-dir", type=Path, help="torchvision root with MNIST")
    parser.add_argument("--dim", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.dim:
        if given.datasets_dir is None:
            parser.error("--datasets-dir is needed to train")
        run(given.dim, given.seed, given.datasets_dir)
    text = table()
    RESULTS.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
