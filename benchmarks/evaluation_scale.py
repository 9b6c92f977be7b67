"""What an evaluation costs: ``python -m benchmarks.evaluation_scale`` writes results/evaluation-scale.json and .md.

50,000 train and 50,000 held-out embeddings in 512 dimensions, near their law, with ten classes that can be told apart.
Every stage at level full, one after the other: seconds, and peak memory above what the arrays themselves take.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from nidim import __version__, machine
from nidim.evaluate import Embedded, clustering, probes, representation
from nidim.evaluate.battery import FULL, fitted_tests, simple_tests
from nidim.evaluate.certificate import gaussian_certificate, uniform_certificate
from nidim.evaluate.distances import distances
from nidim.evaluate.epps_pulley import sliced
from nidim.evaluate.own_scale import own_scale
from nidim.priors import GaussianPrior, MarginalPrior
from nidim.spec import laws

RESULTS = Path(__file__).parent / "results"
CLASSES = 10
VIEWS = (1000, 10)


def made(n: int, d: int) -> Embedded:
    """Embeddings near N(0, I) whose classes differ in the first coordinates, float32."""
    rng = np.random.default_rng(0)
    parts: list[Any] = []
    for _ in range(2):
        labels = rng.integers(0, CLASSES, n)
        x = rng.standard_normal((n, d), dtype=np.float32)
        x[np.arange(n), labels % d] += 2
        parts += [(x - x.mean(axis=0)) / x.std(axis=0), labels]
    few = rng.standard_normal((VIEWS[0], 1, d), dtype=np.float32)
    views = 0.9 * few + 0.4 * rng.standard_normal((*VIEWS, d), dtype=np.float32)
    return Embedded(*parts, views=views)


def stages(e: Embedded) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every stage by name."""
    x, d = e.test.astype(np.float64), e.test.shape[1]
    prior, beta = GaussianPrior(d), MarginalPrior(d, laws.BetaPrior(a=2, b=5))
    unit = 1 / (1 + np.exp(-x))
    split = probes.Split(e.train, e.train_labels, e.test, e.test_labels)
    slices = sliced(x, slices=FULL.distances.slices, seed=0)
    yield "tests, moments fitted", lambda: fitted_tests(x, subsamples=FULL.hz_subsamples, seed=0)
    yield "tests, nothing fitted", lambda: simple_tests(x, slices, effort=FULL, seed=0)
    yield "distances, N(0, I)", lambda: distances(x, x, prior, slices.distance, settings=FULL.distances)
    yield "own scale, N(0, I)", lambda: own_scale(x, prior, sets=FULL.distances.floor_sets)
    yield "distances, Beta(2, 5)", lambda: distances(unit, x, beta, slices.distance, settings=FULL.distances)
    yield "own scale, Beta(2, 5)", lambda: own_scale(unit, beta, sets=FULL.distances.floor_sets)
    yield "certificate, Gaussian noise", lambda: gaussian_certificate(x, sigma=1.0, law="")
    yield "certificate, uniform noise", lambda: uniform_certificate(unit, epsilon=0.2, law="")
    yield "representation", lambda: representation.representation(e.views)
    yield "linear probe", lambda: probes.linear(probes.to_fit(split, seed=0))
    yield "kNN, Euclidean", lambda: probes.knn(split)
    yield "kNN, cosine", lambda: probes.knn(probes.on_sphere(split))
    yield "naive Bayes", lambda: probes.naive_bayes(split)
    yield "MLP probe", lambda: probes.mlp(probes.to_fit(split, seed=0), seed=0)
    yield "clustering", lambda: clustering.clustering(e.test, e.test_labels)


def measured(name: str, work: Callable[[], object]) -> dict[str, Any]:
    """Seconds of ``work``, of processors and by the clock, and MB that it takes at its peak above what was there."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is asked for next
    before = resident_mb()
    machine.reset_peak()
    began, used = time.perf_counter(), time.process_time()
    work()
    return {
        "stage": name,
        "cpu_s": round(time.process_time() - used, 1),
        "wall_s": round(time.perf_counter() - began, 1),
        "peak_mb": max(round(machine.peak_mb() - before), 0),
    }


def resident_mb() -> float:
    """Resident memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    command = f"OMP_NUM_THREADS={found['threads']} python -m benchmarks.evaluation_scale"
    array, pairs = found["n"] * found["d"] * 8 / 1e6, found["n"] ** 2 * 8 / 1e9
    lines = [
        "# What an evaluation costs",
        "",
        f"{found['n']:,} train and {found['n']:,} held-out embeddings in d = {found['d']} dimensions, {CLASSES} "
        "classes, level full. Memory is what a stage takes at its peak above the arrays that it is given; one array of "
        f"the held-out embeddings in float64 is {array:,.0f} MB, all their pairs would be {pairs:,.0f} GB.",
        "",
        "| stage | processor s | s by the clock | peak MB |",
        "|---|---|---|---|",
        *(
            f"| {row['stage']} | {row['cpu_s']:.1f} | {row['wall_s']:.1f} | {row['peak_mb']:,} |"
            for row in found["stages"]
        ),
        "",
        f"{found['processor']}, threads: {found['threads']}, python {found['python']}, numpy {found['numpy']}, scipy "
        f"{found['scipy']}, scikit-learn {found['scikit-learn']}, nidim {found['nidim']}; load average "
        f"{found['load']} when it began: by the clock it waited for other work. Made by",
        "",
        f"    {command} --n {found['n']} --dim {found['d']}",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "n": given.n,
        "d": given.dim,
        "processor": machine.processor(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "nidim": __version__,
        **{name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "stages": [],
    }
    for name, work in stages(made(given.n, given.dim)):
        found["stages"].append(measured(name, work))
        print(found["stages"][-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "evaluation-scale.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.out / "evaluation-scale.md").write_text(markdown(found))


if __name__ == "__main__":
    main()
