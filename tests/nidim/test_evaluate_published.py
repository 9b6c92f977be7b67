"""Equal to published implementations: stored values of pingouin, POT and dcor; SciPy's and scikit-learn's own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from nidim.evaluate import clustering, henze_zirkler, pairs, probes, wasserstein
from tests.nidim.references import make

STORED = json.loads(make.VALUES.read_text())["values"]


@pytest.fixture(params=STORED, ids=lambda stored: "-".join(map(str, stored["set"])))
def stored(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A set that draws the same numbers as where the values were made."""
    assert make.drawn(*request.param["set"])[0, 0] == pytest.approx(request.param["first"], rel=1e-12)
    return request.param


def test_the_stored_sets_are_those_of_the_script() -> None:
    assert [tuple(found["set"]) for found in STORED] == list(make.SETS)


def test_henze_zirkler_is_pingouins(stored: dict[str, Any]) -> None:
    statistic, p = henze_zirkler.henze_zirkler(make.drawn(*stored["set"]))
    assert float(statistic) == pytest.approx(stored["henze_zirkler"], rel=1e-9)
    assert float(p) == pytest.approx(stored["henze_zirkler_p"], rel=1e-6, abs=1e-12)


def test_sliced_wasserstein_is_that_of_pot(stored: dict[str, Any]) -> None:
    found = wasserstein.mean_and_worst(wasserstein.squared_to_sample(*make.pair(*stored["set"])))
    assert found["sw2"] == pytest.approx(stored["sliced_wasserstein_2"], rel=1e-9)


def test_the_energy_statistic_is_that_of_dcor(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second set takes the place of the true draws of N(0, I)."""
    x, y, _ = make.pair(*stored["set"])

    class Given(np.random.Generator):
        def standard_normal(self, *_: Any, **__: Any) -> np.ndarray:
            return y

    monkeypatch.setattr(pairs, "generator", lambda *_: Given(np.random.PCG64(0)))
    found = pairs.energy_test(x, permutations=1, seed=0)
    assert found.statistic == pytest.approx(stored["energy"], rel=1e-4)


def test_the_p_of_the_energy_test_is_scipys_over_all_relabellings() -> None:
    x = np.random.default_rng(3).standard_normal((6, 1)) + 0.8
    y = pairs.generator(0, "energy test").standard_normal((6, 1))

    exact = stats.permutation_test(
        (x[:, 0], y[:, 0]), lambda a, b: stats.energy_distance(a, b), alternative="greater", n_resamples=1000
    )
    found = pairs.energy_test(x, permutations=20_000, seed=0)
    assert found.p == pytest.approx(exact.pvalue, abs=4 * 0.5 / np.sqrt(20_000))


def test_clustering_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    x = rng.standard_normal((400, 4)) + 3 * np.eye(4)[labels]
    found = clustering.clustering(x, labels)
    assert found.silhouette == pytest.approx(metrics.silhouette_score(x, labels))
    assert found.davies_bouldin == pytest.approx(metrics.davies_bouldin_score(x, labels))
    assert found.calinski_harabasz == pytest.approx(metrics.calinski_harabasz_score(x, labels))
    assert (found.n_silhouette, found.n_kmeans) == (400, 400)


def test_neighbours_and_naive_bayes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    x = rng.standard_normal((3000, 20)) + 0.4 * labels[:, None]
    split = probes.Split(x[:1000], labels[:1000], x[1000:], labels[1000:])
    for found, model in (
        (probes.knn(split, k=21), KNeighborsClassifier(21)),  # an odd number of two classes: no ties
        (probes.naive_bayes(split), GaussianNB()),
    ):
        expected = model.fit(split.train, split.train_labels).score(split.test, split.test_labels)
        assert found == pytest.approx(expected)
        assert 0.7 < found < 1
