"""An evaluation of 14,000 held-out embeddings in a process of its own, whose memory is measured.

All pairs of them in float64 would be 1.6 GB. ``benchmarks/evaluation_scale.py`` does the same with 50,000 in 512
dimensions and shows how time and memory grow. The bound is a multiple of the bytes of the embeddings; what the largest
fixed blocks take (all pairs of 5,000 for the silhouette, the energy test's) is in the room beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from nidim import machine
from nidim.capacity import resolve
from nidim.evaluate import Embedded, clustering, evaluate, probes
from nidim.evaluate import certificate as certificates
from nidim.evaluate.battery import battery
from nidim.evaluate.distances import Settings, distances
from nidim.evaluate.epps_pulley import sliced
from nidim.evaluate.own_scale import own_scale
from nidim.priors import MarginalPrior, make_prior, noisy_prior
from nidim.spec import DatasetFacts, TrainSpec, laws

N, N_TRAIN, D, CLASSES = 14_000, 5_000, 64, 10
ROOM, TIMES = 130e6, 8


def embedded(n_train: int, n: int) -> Embedded:
    """Classes that differ a little in the first coordinates."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, n_train + n)
    x = rng.standard_normal((n_train + n, D), dtype=np.float32)
    x[np.arange(len(x)), labels] += 1
    views = rng.standard_normal((1000, 10, D), dtype=np.float32)
    return Embedded(x[:n_train], labels[:n_train], x[n_train:], labels[n_train:], views)


def measured(n: int) -> dict[str, object]:
    """Peak memory beyond what the imports and the arrays took, and what came of it."""
    facts = DatasetFacts(
        name="made", n_train=N_TRAIN, n_test=n, height=8, width=8, channels=1, classes=CLASSES
    )
    spec = TrainSpec.model_validate(
        {
            "dataset": "made",
            "encoder": {"kind": "conv", "dim": D},
            "noise": {"kind": "gaussian", "sigma": 2.0},
        }
    ).filled(facts)
    resolved, prior = resolve(spec, facts)[0], make_prior(spec)
    given = embedded(N_TRAIN, n)
    # one set of true draws, as where there are more rows: a second takes time, not memory
    certificates.FLOOR_PAIRS = n**2
    machine.reset_peak()
    before = machine.peak_mb()
    report = evaluate(
        given,
        spec=spec,
        resolved=resolved,
        mi_nats=None,
        prior=prior,
        noisy=noisy_prior(prior, resolved),
        level="quick",
    )
    return {
        "bytes": (machine.peak_mb() - before) * 1e6,
        "n": report.n_heldout,
        "certified": report.certificate.n,
        "linear": report.linear,
        "chance": report.probes.chance,
        "absent": sorted(report.absent),
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_many_embeddings_are_judged_in_bounded_memory() -> None:
    done = subprocess.run([sys.executable, __file__, str(N)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["certified"]) == (N, N)
    assert found["absent"] == ["clean.fitted.henze_zirkler", "clean.fitted.mardia_skewness"]
    assert found["linear"] > 2 * found["chance"]
    assert found["bytes"] < ROOM + TIMES * N * D * 8 < N * N  # far below one byte a pair
    assert found["bytes"] > N * D * 8, "the measure sees at least one copy in float64"


def test_more_held_out_rows_than_a_certificate_compares_are_drawn_at_random(monkeypatch, no_floor) -> None:
    monkeypatch.setattr(certificates, "MAX_ROWS", 500)
    f = np.random.default_rng(0).standard_normal((2000, 2))
    found = certificates.gaussian_certificate(f[np.argsort(f[:, 0])], sigma=0.7, law="")
    assert (found.n, found.ceiling_nats) == (500, pytest.approx(np.log(500)))
    assert abs(found.kl_bound_nats) < 5 * found.kl_bound_se_nats


def test_quantiles_of_a_law_are_computed_for_so_many_values_at_most() -> None:
    prior = MarginalPrior(4, laws.LaplacePrior())
    x = prior.sample(1000, seed=0).astype(np.float64)
    settings = Settings(slices=8, pair_rows=100, own_values=2000, floor_sets=2)
    s = prior.normal_scores(x)
    found = distances(x, s, prior, sliced(s, slices=8, seed=0).distance, settings=settings)
    assert (found.sw2.n, found.energy.n, found.mean_rms.n) == (500, 100, 1000)
    assert own_scale(x, prior, sets=2, values=2000).w1.n == 500
    assert own_scale(x, prior, sets=2).w1.n == 1000


def test_probes_and_clustering_stay_within_their_budgets(monkeypatch) -> None:
    monkeypatch.setattr(probes, "FIT_SCORES", 200 * CLASSES)
    monkeypatch.setattr(probes, "PAIRS", 600 * 50)
    given = embedded(600, 600)
    split = probes.Split(given.train, given.train_labels, given.test, given.test_labels)
    found = probes.probes(split, with_mlp=False)
    assert (found.n_train, found.n_test, found.n_knn) == (200, 600, 50)
    monkeypatch.setattr(probes, "FIT_SCORES", 1 << 25)
    monkeypatch.setattr(probes, "FIT_VALUES", 300 * D)
    assert len(probes.to_fit(split, seed=0).train) == 300
    monkeypatch.setattr(clustering, "KMEANS_ROWS", 100)
    grouped = clustering.clustering(given.test, given.test_labels)
    assert (grouped.n, grouped.n_kmeans) == (600, 100)
    assert "up to 1,000 classes; there are 1,001" in clustering.why_not(
        np.zeros((1500, 2)), np.arange(1500) % 1001
    )


def test_a_silhouette_of_nearly_one_class_takes_half_from_the_rest() -> None:
    labels = np.zeros(20_000, dtype=np.int64)
    labels[7:9] = 1
    order = np.r_[9:20_000, 0:9]
    rows = clustering.silhouette_rows(labels, order)
    assert len(rows) == clustering.SILHOUETTE_ROWS // 2 + 2
    assert set(labels[rows]) == {0, 1}


def test_the_battery_is_the_same_in_one_block_and_in_many(monkeypatch) -> None:
    from nidim.evaluate import laws as judged
    from nidim.evaluate import moments, shape
    from nidim.evaluate.battery import QUICK

    prior = MarginalPrior(3, laws.LogisticPrior())
    x = prior.sample(700, seed=0)
    whole, _ = battery(x, prior, which="clean", law="", effort=QUICK)
    for module, name in ((moments, "_ROWS"), (shape, "_BLOCK"), (judged, "_VALUES")):
        monkeypatch.setattr(module, name, 50)
    parts, _ = battery(x, prior, which="clean", law="", effort=QUICK)
    for section in ("fitted", "simple", "distances"):
        for key, value in getattr(whole, section):
            if hasattr(value, "value"):
                assert getattr(getattr(parts, section), key).value == pytest.approx(value.value), key
            elif hasattr(value, "p"):
                assert getattr(getattr(parts, section), key).p == pytest.approx(value.p, abs=1e-9), key


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(int(sys.argv[1]))))
