"""Choose settings for MNIST without its test set: train on 55,000 training images, judge on the other 5,000.

    python -m benchmarks.mnist_choices --datasets-dir DIR NAME '{"encoder": {"kind": "conv", "dim": 16}, ...}'

NAME is the file under benchmarks/results/mnist-choices/ that keeps spec, figures, hardware and versions; the JSON is
what the spec changes of the default of its git revision. Without NAME the stored runs are listed. Beside the held-out
images stand as many of those that were trained on: where their law is nearer, the rest is generalisation, not training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nidim.data import Dataset

RESULTS = Path(__file__).resolve().parent / "results" / "mnist-choices"
HELD_OUT = 5000


def with_held_out(whole: Dataset, train: NDArray[np.int64], held_out: NDArray[np.int64]) -> Dataset:
    """The training images of ``whole`` alone, some of them held out instead of its test set."""
    from nidim.data import ImageSet

    images, labels = whole.train.images, whole.train.labels
    assert labels is not None
    parts = [ImageSet(images[rows], labels[rows]) for rows in (train, held_out)]
    return dataclasses.replace(whole, train=parts[0], test=parts[1])


def run(name: str, overrides: dict[str, object], datasets_dir: Path) -> None:
    """One training on the first 55,000 images, one file."""
    from nidim import pipeline
    from nidim.data import load_builtin
    from nidim.progress import TrainingDisplay
    from nidim.spec import TrainSpec

    spec = TrainSpec.model_validate({"dataset": "mnist", **overrides})
    whole = load_builtin("mnist", root=datasets_dir)
    rows = np.arange(len(whole.train.images))
    dataset = with_held_out(whole, rows[:-HELD_OUT], rows[-HELD_OUT:])
    began = time.monotonic()
    with TrainingDisplay() as display, tempfile.TemporaryDirectory() as out:
        hooks = pipeline.Hooks(on_step=display.step, on_phase=display.phase)
        outcome = pipeline.run(spec, dataset, out_dir=Path(out), hooks=hooks)
        config = json.loads((Path(out) / "config.json").read_text())
    assert outcome.report is not None
    assert outcome.report.trained_on is not None
    own = outcome.report.trained_on
    report = outcome.report.model_dump(mode="json")
    stored = {
        "name": name,
        "changed": overrides,
        "wall_s": round(time.monotonic() - began, 1),
        "spec": config["spec"],
        "resolved": config["resolved"],
        "provenance": config["provenance"],
        "training_images": {"hz_p": own.hz_p, "hz_reject": own.hz_reject, "sw2_ratio": own.sw2.ratio},
        "report": {key: value for key, value in report.items() if not isinstance(value, (dict, list))},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(stored, indent=1))


def listing() -> str:
    """The stored runs, a line each."""
    lines = [
        f"{'name':32} {'MLP':>6} {'kNN':>6} {'linear':>6} {'HZ p':>7} {'(null)':>6} {'SW2':>6} {'KL':>6} "
        "of training images: HZ p, SW2"
    ]
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        r = found["report"]
        own = found.get("training_images")  # not in the first ones
        lines.append(
            f"{found['name']:32} {r['mlp']:6.3f} {r['knn']:6.3f} {r['linear']:6.3f} {r['hz_p']:7.4f} "
            f"{r['hz_p_null']:6.3f} {r['sw2_ratio']:6.2f} {r['kl_bound_nats']:6.2f}"
            + ("" if own is None else f" {own['hz_p']:7.4f} {own['sw2_ratio']:5.2f}")
        )
    return "\n".join(lines)


def main() -> None:
    """Run one setting when it is named, list what is stored."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_choices", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--datasets-dir", type=Path, help="torchvision root with MNIST")
    parser.add_argument("name", nargs="?")
    parser.add_argument("overrides", nargs="?", type=json.loads, default={})
    given = parser.parse_args()
    if given.name:
        if given.datasets_dir is None:
            parser.error("--datasets-dir is needed to train")
        run(given.name, given.overrides, given.datasets_dir)
    print(listing())


if __name__ == "__main__":
    main()
