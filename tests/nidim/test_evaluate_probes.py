"""Probes and clustering: known answers on made embeddings, and graceful ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nidim.evaluate import clustering, probes
from nidim.evaluate.probes import Split


def blobs(
    n: int, d: int = 3, classes: int = 4, gap: float = 6.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    centres = gap * np.random.default_rng(99).standard_normal((classes, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return (centres[labels] + rng.standard_normal((n, d))).astype(np.float32), labels


def split(**options: float) -> Split:
    return Split(*blobs(600, seed=0, **options), *blobs(200, seed=1, **options))


def test_every_probe_reads_separate_classes():
    stages: list[str] = []
    found = probes.probes(split(), progress=stages.append)
    for accuracy in (found.linear, found.knn_euclidean, found.knn_cosine, found.naive_bayes, found.mlp):
        assert accuracy > 0.93
    assert found.linear_converged
    assert (found.k, found.n_train, found.n_test) == (20, 600, 200)
    assert stages == ["linear probe", "nearest neighbours", "MLP probe"]


def test_no_probe_reads_noise():
    found = probes.probes(split(gap=0.0), with_mlp=False)
    assert found.mlp is None
    for accuracy in (found.linear, found.knn_euclidean, found.knn_cosine, found.naive_bayes):
        assert accuracy < found.chance + 0.1


@pytest.mark.parametrize("d", [2, 20])
def test_neighbours_are_those_of_all_distances(d):
    train, labels = blobs(300, d=d, gap=0.7)
    test, test_labels = blobs(90, d=d, gap=0.7, seed=1)
    nearest = np.argsort(cdist(test, train), axis=1)[:, :7]
    votes = labels[nearest]
    counts = np.stack([(votes == c).sum(axis=1) for c in range(4)], axis=1)
    decided = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    right = counts.argmax(axis=1)[decided] == test_labels[decided]
    decided_only = Split(train, labels, test[decided], test_labels[decided])
    assert probes.knn(decided_only, k=7) == pytest.approx(right.mean())


def test_a_tie_goes_to_the_nearer_class():
    train = np.array([[0.0], [0.1], [1.0], [1.1]])
    labels = np.array([1, 1, 0, 0])
    assert probes.knn(Split(train, labels, np.array([[0.3]]), np.array([1])), k=4) == 1.0
    assert probes.knn(Split(train, labels, np.array([[0.8]]), np.array([0])), k=4) == 1.0


def test_cosine_sees_directions_alone():
    train, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    far = Split(train, labels, np.array([[100.0, 1.0], [0.0, 0.0]]), np.array([0, 0]))
    assert probes.knn(probes.on_sphere(far), k=1) == 1.0
    assert np.isfinite(probes.on_sphere(far).test).all()


def test_an_unfinished_solver_says_so_and_raises_no_warning(monkeypatch):
    monkeypatch.setattr(probes, "LINEAR_ITERATIONS", 1)
    monkeypatch.setattr(probes, "MLP_EPOCHS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = probes.probes(split())
    assert not found.linear_converged


def test_rare_classes_do_not_stop_the_network():
    x, y = blobs(40)
    y[0] = 17
    assert probes.mlp(Split(x, y, x, y).standardised(), seed=0) > 0.5


def test_seeds_are_fixed_and_the_train_set_can_be_cut():
    first, again = probes.probes(split(gap=1.0), seed=3), probes.probes(split(gap=1.0), seed=3)
    assert first == again
    assert probes.probes(split(), train_max=100, with_mlp=False).n_train == 100


@pytest.mark.parametrize(
    ("train", "labels", "test", "why"),
    [(5, 2, 5, "too few"), (50, 2, 0, "too few"), (50, 1, 5, "one class")],
)
def test_what_cannot_be_probed_says_why(train, labels, test, why):
    part = Split(
        np.zeros((train, 2)), np.arange(train) % labels, np.zeros((test, 2)), np.zeros(test, dtype=int)
    )
    assert why in probes.why_not(part)


def test_clustering_finds_separate_classes_and_not_noise():
    good, bad = clustering.clustering(*blobs(500)), clustering.clustering(*blobs(500, gap=0.0))
    assert good.kmeans_nmi > 0.9 > 0.1 > bad.kmeans_nmi
    assert good.kmeans_ari > 0.9 > 0.1 > bad.kmeans_ari
    assert good.silhouette > 0.5 > bad.silhouette
    assert good.davies_bouldin < bad.davies_bouldin
    assert good.calinski_harabasz > bad.calinski_harabasz


def test_clustering_of_a_collapsed_embedding_is_a_score_not_a_warning():
    found = clustering.clustering(np.zeros((50, 2)), np.arange(50) % 3)
    assert found.kmeans_nmi == 0


def test_clustering_needs_classes():
    assert "1 in 4" in clustering.why_not(np.zeros((4, 2)), np.zeros(4, dtype=int))
    assert "4 in 4" in clustering.why_not(np.zeros((4, 2)), np.arange(4))
    assert clustering.why_not(np.zeros((4, 2)), np.array([0, 0, 1, 1])) is None
