"""MNIST at d = 2 and d = 16 with the default spec: accuracy, matching, certificate; the no-noise row beside each.

    python -m benchmarks.mnist_table --datasets-dir DIR [--seeds 0 1 2] [--only gaussian-2]

Every run is stored as one JSON file under benchmarks/results/mnist/ with spec, hardware and versions; a run that is
there already is not repeated, so the table can be made in pieces. The table stands between its markers in
docs/mnist.md, and some rows and columns of it in README.md. Trained on all 60,000 training images, read once on the
10,000 test images, final epoch. Settings were chosen on 5,000 held-out training images.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nidim.reproduce.table import kl_floor, spread

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mnist"
PAGE, README = ROOT / "docs" / "mnist.md", ROOT / "README.md"
BEGIN, END = "<!-- mnist-table -->", "<!-- /mnist-table -->"


BASELINE_SIGMA = {2: 0.2, 16: 0.5}
"""At which the certificate of a training without noise is evaluated: the default of one stage."""


SHORT, LONG = 16, 40
"""Epochs of the second of two stages: of d = 2, and of d = 16, whose rows with fewer show what these do."""
FIRST = 8
"""Epochs of the first of two stages, and of one."""


def configurations() -> dict[str, dict[str, Any]]:
    """Name of a row -> what its spec changes of the default."""
    rows: dict[str, dict[str, Any]] = {}
    for dim in (2, 16):
        encoder = {"kind": "conv", "dim": dim}
        one: dict[str, Any] = {
            "encoder": encoder,
            "method": {"kind": "infomax"},
            "regularizer": {"kind": "none" if dim == 2 else "sliced_epps_pulley"},
        }
        rows[f"neighbors-{dim}"] = {"encoder": encoder}
        rows[f"gaussian-{dim}"] = one
        rows[f"uniform-{dim}"] = {**one, "prior": {"kind": "uniform"}}
        rows[f"none-{dim}"] = {
            "encoder": encoder,
            "noise": {"kind": "none", "certificate_sigma": BASELINE_SIGMA[dim]},
            "regularizer": {"kind": "none"},
        }
    affine: dict[str, Any] = {
        "encoder": {"kind": "conv", "dim": 16},
        "augmentation": {"kind": "digits"},
    }
    rows["affine-16"] = affine
    short = {**affine, "epochs": SHORT}
    rows["shorter-16"] = {**short, "regularizer": {"kind": "sliced_epps_pulley", "bhep": 10.0}}
    rows["weaker-16"] = {**rows["shorter-16"], "noise": {"kind": "gaussian", "sigma": 0.5}}
    rows["separable-16"] = {
        **short,
        "critic": {"kind": "separable"},
        "noise": {"kind": "gaussian", "sigma": 0.5},
        "regularizer": {"kind": "sliced_epps_pulley", "bhep": 1.0},
    }
    for dim, like in ((2, rows["neighbors-2"]), (16, rows["separable-16"])):
        rows[f"quiet-{dim}"] = {
            "regularizer": {"kind": "sliced_epps_pulley", "weight": 0.3},  # of the default at d = 2
            **like,
            "method": {"kind": "infomax", "neighbors": 15},
            "noise": {"kind": "none", "certificate_sigma": BASELINE_SIGMA[dim]},
        }
    rows["alone-16"] = {
        "encoder": {"kind": "conv", "dim": 16},
        "method": {"kind": "infomax"},
        "regularizer": {"kind": "none"},
    }
    as_default: dict[str, Any] = {"epochs": FIRST + LONG, "augmentation": {"kind": "handwriting"}}
    rows["longer-none-16"] = {**rows["none-16"], **as_default}
    rows["lejepa-16"] = {
        "encoder": {"kind": "conv", "dim": 16},
        "method": {"kind": "lejepa"},
        "epochs": FIRST + SHORT,
        "noise": {"kind": "none", "certificate_sigma": BASELINE_SIGMA[16]},
        "regularizer": {"kind": "none"},
    }
    rows["longer-lejepa-16"] = {**rows["lejepa-16"], **as_default}
    rows["sigmoid-2"] = {
        "encoder": {"kind": "conv", "dim": 2},
        "normalization": {"kind": "sigmoid"},
        "prior": {"kind": "uniform"},
    }
    return rows


LAWS = {
    "neighbors": "Gaussian, two stages",
    "affine": "Gaussian, two stages",
    "shorter": "Gaussian, two stages",
    "weaker": "Gaussian, two stages",
    "separable": "Gaussian, two stages, the critic learned",
    "quiet": "no noise, two stages, the critic learned",
    "gaussian": "Gaussian",
    "alone": "Gaussian",
    "uniform": "uniform, Φ of a Gaussian",
    "sigmoid": "uniform, sigmoid + U(±ε)",
    "none": "no noise",
    "longer-none": "no noise",
    "lejepa": "LeJEPA (SIGReg)",
    "longer-lejepa": "LeJEPA (SIGReg)",
}
ORDER = tuple(LAWS)
VIEWS = {"digits": "affine", "handwriting": "strokes"}
"""Kinds of augmentation as the table calls them."""

IN_SHORT = {
    "neighbors-2": "**default**: noise and a term, two stages",
    "gaussian-2": "noise alone, one stage",
    "none-2": "neither, one stage",
    "neighbors-16": "**default**: noise and a term, two stages",
    "gaussian-16": "noise and a term, one stage",
    "alone-16": "noise alone, one stage",
    "none-16": "neither, one stage",
    "longer-lejepa-16": "LeJEPA (SIGReg), a peer, for as long as the default",
}
"""The rows of the README, as it calls them."""


def run(name: str, seed: int, datasets_dir: Path) -> None:
    """One training, evaluation and file."""
    from nidim import pipeline
    from nidim.data import load_builtin
    from nidim.progress import TrainingDisplay
    from nidim.spec import TrainSpec

    spec = TrainSpec.model_validate({"dataset": "mnist", "seed": seed, **configurations()[name]})
    dataset = load_builtin("mnist", root=datasets_dir)
    began = time.monotonic()
    with TrainingDisplay() as display, tempfile.TemporaryDirectory() as out:
        hooks = pipeline.Hooks(on_step=display.step, on_phase=display.phase)
        outcome = pipeline.run(spec, dataset, out_dir=Path(out), hooks=hooks)
        config = json.loads((Path(out) / "config.json").read_text())
    assert outcome.report is not None
    stored = {
        "row": name,
        "seed": seed,
        "wall_s": round(time.monotonic() - began, 1),
        "train_s": round(outcome.fitted.history[-1]["elapsed_s"], 1),
        "spec": config["spec"],
        "resolved": config["resolved"],
        "provenance": config["provenance"],
        "report": outcome.report.model_dump(mode="json"),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}-seed{seed}.json").write_text(json.dumps(stored, indent=1))


def stored_runs() -> dict[str, list[dict[str, Any]]]:
    """Row -> its runs, by seed."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        rows.setdefault(found["row"], []).append(found)
    return rows


def table() -> str:
    """The table over all stored runs, mean ± standard deviation over seeds, as Markdown."""
    stored = stored_runs()
    lines = [
        "| law | term | views | d "
        "| σ, ε | epochs | seeds | min | Î | C | KL bound (95 %; true draws) | HZ p (true draws) "
        "| rejected (true draws) | SW2 / floor | linear | kNN | MLP |",
        "|" + "---|" * 17,
    ]
    for name in sorted(stored, key=_place):
        runs = stored[name]
        report = [r["report"] for r in runs]
        first = runs[0]
        cells = [
            LAWS[name.rsplit("-", 1)[0]],
            _term(first["spec"]["regularizer"]),
            VIEWS[first["spec"]["augmentation"]["kind"]],
            str(first["resolved"]["dim"]),
            _noise(first["spec"]["noise"], first["resolved"]),
            _epochs(first["spec"]),
            str(len(runs)),
            spread([r["wall_s"] / 60 for r in runs], ".1f"),
            spread([r["mi_nats"] for r in report], ".2f"),
            spread([r["capacity_nats"] for r in report], ".2f"),
            f"{spread([r['kl_bound_nats'] for r in report], '.2f')} "
            f"({spread([r['kl_bound_upper95_nats'] for r in report], '.2f')}; {_floor(runs)})",
            *(_beside_true_draws(report, *one) for one in (("hz_p", ".3f"), ("hz_reject", ".2f"))),
            spread([r["sw2_ratio"] for r in report], ".1f"),
            *(spread([r[key] for r in report], ".3f") for key in ("linear", "knn", "mlp")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + footnote() + "\n"


def summary() -> str:
    """The rows of the README, with the columns that say most."""
    stored = stored_runs()
    lines = [
        "| d | trained with | seeds | KL bound, 95 % (true draws) | HZ p (true draws) | rejected (true draws) "
        "| SW2 / floor | linear | kNN | MLP |",
        "|" + "---|" * 10,
    ]
    for name, called in IN_SHORT.items():
        runs = stored[name]
        report = [r["report"] for r in runs]
        cells = [
            str(runs[0]["resolved"]["dim"]),
            called,
            str(len(runs)),
            f"{spread([r['kl_bound_upper95_nats'] for r in report], '.2f')} ({_floor(runs)})",
            *(_beside_true_draws(report, *one) for one in (("hz_p", ".3f"), ("hz_reject", ".2f"))),
            spread([r["sw2_ratio"] for r in report], ".1f"),
            *(spread([r[key] for r in report], ".3f") for key in ("linear", "knn", "mlp")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\nMean ± sd over seeds; {_machines_in_short()}.\n"


def _beside_true_draws(report: list[dict[str, Any]], key: str, shown: str) -> str:
    own, null = (spread([one[name] for one in report], shown) for name in (key, f"{key}_null"))
    return f"{own} ({null})"


def _floor(runs: list[dict[str, Any]]) -> str:
    return spread([kl_floor(run) for run in runs], ".2f")


def _place(name: str) -> tuple[int, int]:
    law, _, dim = name.rpartition("-")
    return int(dim), ORDER.index(law)


def _epochs(spec: dict[str, Any]) -> str:
    """Those of both stages, where there are two; no row here gives those of the first."""
    second = int(spec["epochs"])
    return f"{FIRST} + {second}" if spec["method"].get("neighbors") else str(second)


def _term(regularizer: dict[str, Any]) -> str:
    if regularizer["kind"] != "sliced_epps_pulley":
        return "–"
    bhep = regularizer.get("bhep")
    return f"sliced EP, BHEP {bhep:g}" if bhep else "sliced EP"


def _noise(noise: dict[str, Any], resolved: dict[str, Any]) -> str:
    if noise["kind"] == "uniform":
        return f"ε {noise['epsilon']:.3g}"
    return f"{resolved['sigma']:.3g}" if resolved["sigma"] else f"none ({noise['certificate_sigma']:.3g})"


def _machines() -> str:
    found = {
        f"{p['processor']}, {p['threads']} threads, torch {p['torch']}"
        for runs in stored_runs().values()
        for p in (r["provenance"] for r in runs)
    }
    return "; ".join(sorted(found))


def _machines_in_short() -> str:
    provenance = [run["provenance"] for runs in stored_runs().values() for run in runs]
    processors, threads, torch = (
        sorted({str(one[key]).partition("+")[0] for one in provenance})
        for key in ("processor", "threads", "torch")
    )
    return f"{' or '.join(processors)}, {' or '.join(threads)} threads, torch {', '.join(torch)}"


def footnote() -> str:
    """Hardware and versions of the stored runs, and what the columns are."""
    slower = sorted(
        name
        for name, runs in stored_runs().items()
        if any(run["resolved"]["dtype"] == "float32" for run in runs)
    )
    return (
        f"\n{_machines()}. "
        "`precision: auto` takes what is faster on the machine at the time, mostly bfloat16; in float32, which takes "
        f"longer here, were runs of {', '.join(slower)}. "
        "Mean ± sd over seeds; `min`: minutes with the evaluation. `no noise` alone is plain InfoMax, its certificate "
        "evaluated at the σ in brackets. `KL bound` in nats, with its one-sided 95 % end and what 10,000 true "
        "draws come to. `rejected`: share of subsamples of 64 with Henze–Zirkler p < .05. `term`: what stands "
        "beside the noise: EP is Epps–Pulley, BHEP the distance behind the Henze–Zirkler test, "
        "its weight beside it. `views`: affine maps and pixel noise; of `strokes`, these are bent and made thicker or "
        "thinner, too. `epochs`: of both stages in `two stages` (`method.neighbors` = 15). "
        "Of two stages σ = .2 at d = 2 and, at d = 16, σ = .6 with "
        "8 + 40 epochs and `strokes` are the default spec; where they say `no noise`, the second has none. The law of "
        "`sigmoid + U(±ε)` is that of the noisy embedding, U[−ε, 1+ε]^d, and so are its HZ p and SW2."
    )


def write_table() -> None:
    """Put the table between its markers on its page, and what is shown of it in the README."""
    for path, text in ((PAGE, table()), (README, summary())):
        page = path.read_text()
        path.write_text(re.sub(f"{BEGIN}.*?{END}", f"{BEGIN}\n{text}{END}", page, flags=re.DOTALL))


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_table", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--datasets-dir", type=Path, help="torchvision root with MNIST")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=list(configurations()), help="these rows alone")
    parser.add_argument(
        "--table", action="store_true", help="write the table from what is stored, run nothing"
    )
    given = parser.parse_args()
    if not given.table:
        if given.datasets_dir is None:
            sys.exit("give --datasets-dir, the folder in which torchvision's MNIST lies")
        for seed in given.seeds:
            for name in given.only or configurations():
                if not (RESULTS / f"{name}-seed{seed}.json").exists():
                    run(name, seed, given.datasets_dir)
    write_table()


if __name__ == "__main__":
    main()
