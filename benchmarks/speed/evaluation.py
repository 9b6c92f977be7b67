"""Statistics of 10,000 embeddings in 64 dimensions beside pingouin, hyppo and POT; the whole report of 10,000 × 128."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation_scale import made, measured
from benchmarks.speed.measure import Json, in_turns, row, store, surroundings
from benchmarks.speed.peers import Peer
from nidim.capacity import resolve
from nidim.evaluate import evaluate, henze_zirkler, pairs, wasserstein
from nidim.evaluate.epps_pulley import directions, slice_statistics
from nidim.priors import make_prior, noisy_prior
from nidim.spec import DatasetFacts, TrainSpec

SEED = 0
SLICES = 128
PERMUTATIONS = 199
FEW_SLICES = 4
"""The double sum takes long."""
THREADS = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def main(small: bool = False) -> None:
    """Measure and store."""
    where = surroundings(SEED, ("scikit-learn",))
    n, d, few = (500, 8, 60) if small else (10_000, 64, 300)
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as directory, Peer("evaluation", threads=THREADS) as peer:
        versions = peer.ask("import_all")["result"]
        data = Data(Path(directory), rng.standard_normal((n, d)), rng.standard_normal((n, d)), few)
        rows = [*compared(data, peer, versions, rounds=1 if small else 3), own_slices(data)]
    rows.append(growth_of_memory(small))
    rows.append(report(500 if small else 10_000, 8 if small else 128))
    if not small:
        store("evaluation", rows, where={**where, "peers": versions, "threads": THREADS})


class Data:
    """Embeddings and draws, as arrays here and as files for the peer, ``few`` rows for hyppo: more take minutes."""

    def __init__(self, directory: Path, x: np.ndarray, draws: np.ndarray, few: int) -> None:
        self.x, self.draws, self.few = x, draws, few
        self.files = {}
        for name, array in {"x": x, "draws": draws, "x_few": x[:few], "draws_few": draws[:few]}.items():
            self.files[name] = str(directory / f"{name}.npy")
            np.save(self.files[name], array)

    @property
    def size(self) -> str:
        """n and d in words."""
        return f"n = {len(self.x):,}, d = {self.x.shape[1]}"


def compared(data: Data, peer: Peer, versions: dict[str, str], *, rounds: int) -> list[Json]:
    """A row for every statistic that a peer has too."""
    x, files = data.x, data.files
    a = directions(x.shape[1], SLICES, seed=SEED)
    energy = {"permutations": PERMUTATIONS}
    works: tuple[tuple[str, str, Callable[[], object], str, dict[str, Any]], ...] = (
        (
            f"Henze–Zirkler, all pairs, {data.size}",
            "pingouin",
            lambda: henze_zirkler.henze_zirkler(x),
            "henze_zirkler",
            {"path": files["x"]},
        ),
        (
            f"energy distance to N(0, I) (hyppo: to as many draws), n = {data.few}, d = {x.shape[1]}",
            "hyppo",
            lambda: pairs.energy_and_mmd(x[: data.few]),
            "energy_distance",
            {"path": files["x_few"], "draws": files["draws_few"]},
        ),
        (
            f"energy test, {PERMUTATIONS} relabellings, n = {data.few}, d = {x.shape[1]}",
            "hyppo",
            lambda: pairs.energy_test(x[: data.few], permutations=PERMUTATIONS, seed=SEED),
            "energy_test",
            {"path": files["x_few"], "draws": files["draws_few"], **energy},
        ),
        (
            f"sliced Wasserstein-2, {SLICES} directions, {data.size}",
            "pot",
            lambda: wasserstein.squared_to_normal(x, a),
            "sliced_wasserstein",
            {"path": files["x"], "draws": files["draws"], "slices": SLICES},
        ),
    )
    rows = []
    for what, name, ours, theirs, given in works:
        theirs_mb: list[float] = []

        def ask(theirs: str = theirs, given: dict[str, Any] = given, kept: list[float] = theirs_mb) -> float:
            answer = peer.ask(theirs, **given)
            kept.append(answer["peak_mb"])
            return float(answer["seconds"])

        found = in_turns({"ours": ours, "theirs": ask}, rounds=rounds)
        peak = measured(what, ours)["peak_mb"]
        times = np.median(found["theirs"]) / np.median(found["ours"])
        rows.append(
            row(
                what,
                "s",
                found["ours"],
                peers={f"{name} {versions[name]}": found["theirs"]},
                asked="10 times as fast",
                met=bool(times >= 10),
                peak_mb={"ours": peak, name: round(max(theirs_mb))},
            )
        )
    return rows


def own_slices(data: Data) -> Json:
    """Epps–Pulley has no peer in these libraries: beside the double sum of its definition, in NumPy."""
    x, a = data.x, directions(data.x.shape[1], FEW_SLICES, seed=SEED)
    works = {"ours": lambda: slice_statistics(x, a), "plain": lambda: double_sum(x, a)}
    found = in_turns(works, rounds=3)
    times = np.median(found["plain"]) / np.median(found["ours"])
    return row(
        f"sliced Epps–Pulley, {FEW_SLICES} directions, {data.size}",
        "s",
        found["ours"],
        peers={"its double sum in NumPy": found["plain"]},
        asked="10 times as fast",
        met=bool(times >= 10),
        peak_mb={"ours": measured("", works["ours"])["peak_mb"]},
    )


def double_sum(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Epps–Pulley of each projection as it is written down, over all pairs of points, 256 rows at a time."""
    y = x @ a
    n = len(y)
    total = np.zeros(y.shape[1])
    for column in range(y.shape[1]):
        values = y[:, column]
        for i in range(0, n, 256):
            total[column] += np.exp(-np.square(values[i : i + 256, None] - values[None]) / 2).sum()
    return total / n - np.sqrt(2) * np.exp(-np.square(y) / 4).sum(axis=0) + n / np.sqrt(3)


def growth_of_memory(small: bool) -> Json:
    """Peak memory of Henze–Zirkler over all pairs as n doubles: it would grow fourfold with an array of them."""
    sizes = (400, 800) if small else (2_500, 5_000, 10_000, 20_000)
    rng = np.random.default_rng(SEED)
    peaks = {}
    for n in sizes:
        x = rng.standard_normal((n, 64))
        peaks[n] = measured("", lambda x=x: henze_zirkler.henze_zirkler(x))["peak_mb"]
    arrays = {n: n * 64 * 8 / 1e6 for n in sizes}
    extra = [max(peaks[n], 1) / arrays[n] for n in sizes]
    return row(
        f"memory of Henze–Zirkler beside the points themselves, n = {sizes[0]:,} to {sizes[-1]:,}",
        "MB",
        [max(peaks[sizes[-1]], 1)],
        asked="does not grow as n²",
        met=bool(extra[-1] <= 2 * extra[-2] + 1),
        peak_mb=peaks,
    )


def report(n: int, d: int) -> Json:
    """The whole report of as many held-out embeddings, labels and views as a training hands over."""
    spec = TrainSpec.model_validate({"dataset": "digits", "encoder": {"kind": "conv", "dim": d}})
    facts = DatasetFacts(name="digits", n_train=n, n_test=n, height=8, width=8, channels=1, classes=10)
    full = spec.filled(facts)
    resolved, prior = resolve(full, facts)[0], make_prior(full)
    embedded, noisy = made(n, d), noisy_prior(prior, resolved)
    found = measured(
        "", lambda: evaluate(embedded, spec=full, resolved=resolved, mi_nats=None, prior=prior, noisy=noisy)
    )
    return row(
        f"the whole report, {n:,} embeddings, d = {d}",
        "s",
        [found["wall_s"]],
        asked="under a minute on two cores",
        met=found["wall_s"] < 60,
        cpu_s=found["cpu_s"],
        peak_mb=found["peak_mb"],
    )
