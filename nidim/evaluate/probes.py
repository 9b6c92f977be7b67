"""What the embeddings are good for: classifiers trained on clean train embeddings, read on held-out ones.

linear       multinomial logistic regression, L2 of strength C = 1, L-BFGS, standardised embeddings
knn          majority of the k = 20 nearest, a tie goes to the smaller sum of ranks; Euclidean (the metric in
             which the law is known) and cosine
naive Bayes  independent Gaussians per class
mlp          scikit-learn's MLPClassifier (128, 128), early stopping on a tenth, standardised embeddings

Every seed is fixed. A solver that stops at its cap is reported as such, not hidden.

So that memory and time stay bounded for sets of any size: logistic regression and MLP are fitted to at most
``FIT_VALUES`` / d and ``FIT_SCORES`` / classes random rows, neighbours are looked up for at most ``PAIRS`` / n_train
random held-out embeddings. 50,000 embeddings in 512 dimensions of ten classes are below all three.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Probes

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]

K = 20
LINEAR_ITERATIONS = 500
MLP_EPOCHS = 200
FIT_VALUES, FIT_SCORES, PAIRS = 1 << 26, 1 << 25, 1 << 32
_TEST_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Split:
    """Train and held-out embeddings (n, d) with their labels (n,)."""

    train: Floats
    train_labels: Labels
    test: Floats
    test_labels: Labels

    def standardised(self) -> Split:
        """Both sets by the mean and deviation of the train set, float64."""
        train, test = self.train.astype(np.float64), self.test.astype(np.float64)
        scaler = StandardScaler(copy=False).fit(train)
        return dataclasses.replace(self, train=scaler.transform(train), test=scaler.transform(test))


def accuracy(model: Any, x: Floats, labels: Labels) -> float:
    """Share of ``x`` (n, d) that a fitted classifier gives its label, some rows at a time."""
    parts = [slice(i, i + _TEST_ROWS) for i in range(0, len(x), _TEST_ROWS)]
    return sum(int((model.predict(x[part]) == labels[part]).sum()) for part in parts) / len(x)


def linear(split: Split) -> tuple[float, bool]:
    """Held-out accuracy of logistic regression on a standardised ``split``, and whether it converged."""
    model = LogisticRegression(max_iter=LINEAR_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # returned instead: n_iter_ tells
        model.fit(split.train, split.train_labels)
    converged = bool((model.n_iter_ < LINEAR_ITERATIONS).all())
    return accuracy(model, split.test, split.test_labels), converged


def knn(split: Split, *, k: int = K) -> float:
    """Held-out accuracy of the majority of the ``k`` nearest train embeddings, Euclidean."""
    k = min(k, len(split.train))
    classes, train_labels = np.unique(split.train_labels, return_inverse=True)
    index = NearestNeighbors(n_neighbors=k).fit(split.train)
    weight = 1 + np.linspace(1e-3, 0, k) / k  # breaks ties, never a majority
    right = 0
    for i in range(0, len(split.test), _TEST_ROWS):
        part = slice(i, i + _TEST_ROWS)
        votes = train_labels[index.kneighbors(split.test[part], return_distance=False)]
        tally = np.zeros((len(votes), len(classes)))
        for rank in range(k):
            tally[np.arange(len(votes)), votes[:, rank]] += weight[rank]
        right += int((classes[tally.argmax(axis=1)] == split.test_labels[part]).sum())
    return right / len(split.test)


def on_sphere(split: Split) -> Split:
    """The split with every embedding scaled to length one: Euclidean there orders as cosine does."""

    def scaled(x: Floats) -> Floats:
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(norms > 0, norms, 1.0)

    return dataclasses.replace(split, train=scaled(split.train), test=scaled(split.test))


def naive_bayes(split: Split) -> float:
    """Held-out accuracy of Gaussian naive Bayes; of the commonest class where no coordinate has any variance."""
    if np.ptp(split.train, axis=0).max() == 0:
        classes, counts = np.unique(split.train_labels, return_counts=True)
        return float((split.test_labels == classes[counts.argmax()]).mean())
    return accuracy(GaussianNB().fit(split.train, split.train_labels), split.test, split.test_labels)


def mlp(split: Split, *, seed: int) -> float:
    """Held-out accuracy of MLPClassifier (128, 128) on a standardised ``split``."""
    _, counts = np.unique(split.train_labels, return_counts=True)
    tenth = len(split.train) // 10
    model = MLPClassifier(
        hidden_layer_sizes=(128, 128),
        early_stopping=bool(counts.min() >= 2 and tenth >= len(counts)),  # it needs a stratified tenth
        random_state=seed,
        max_iter=MLP_EPOCHS,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the cap on epochs is part of the definition
        model.fit(split.train.astype(np.float32), split.train_labels)
    return accuracy(model, split.test.astype(np.float32), split.test_labels)


def probes(
    split: Split,
    *,
    seed: int = 0,
    with_mlp: bool = True,
    train_max: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Probes:
    """All probes of ``split``; logistic regression and MLP see ``train_max`` random train rows at most.

    ``progress`` is called with the name of each probe before it starts. Ask :func:`why_not` first.
    """
    tell = progress or (lambda _: None)
    tell("linear probe")
    fitted = to_fit(split, train_max, seed=seed)
    linear_accuracy, converged = linear(fitted)
    tell("nearest neighbours")
    queried = asked(split, seed=seed)
    euclidean, cosine = knn(queried), knn(on_sphere(queried))
    bayes = naive_bayes(split)
    network = None
    if with_mlp:
        tell("MLP probe")
        network = mlp(fitted, seed=seed)
    return Probes(
        linear=linear_accuracy,
        linear_converged=converged,
        knn_euclidean=euclidean,
        knn_cosine=cosine,
        k=min(K, len(split.train)),
        naive_bayes=bayes,
        mlp=network,
        n_train=len(fitted.train),
        n_test=len(split.test),
        n_knn=len(queried.test),
        chance=float(np.unique(split.test_labels, return_counts=True)[1].max() / len(split.test)),
    )


def subset(split: Split, train_max: int | None, *, seed: int) -> Split:
    """The split with at most ``train_max`` train rows, drawn at random."""
    if train_max is None or len(split.train) <= train_max:
        return split
    rows = generator(seed, "probe rows").choice(len(split.train), train_max, replace=False)
    return dataclasses.replace(split, train=split.train[rows], train_labels=split.train_labels[rows])


def to_fit(split: Split, train_max: int | None = None, *, seed: int) -> Split:
    """The standardised split with so many random train rows as logistic regression and MLP may see."""
    classes = len(np.unique(split.train_labels))
    rows = min(FIT_VALUES // split.train.shape[1], FIT_SCORES // classes)
    return subset(split, rows if train_max is None else min(rows, train_max), seed=seed).standardised()


def asked(split: Split, *, seed: int) -> Split:
    """The split with so many held-out rows, drawn at random, as all their distances to the train rows allow."""
    count = max(1, PAIRS // len(split.train))
    if len(split.test) <= count:
        return split
    rows = generator(seed, "neighbour rows").choice(len(split.test), count, replace=False)
    return dataclasses.replace(split, test=split.test[rows], test_labels=split.test_labels[rows])


def why_not(split: Split) -> str | None:
    """Why no probe can be trained, or None."""
    if len(split.train) < 10 or len(split.test) == 0:
        return f"{len(split.train)} train and {len(split.test)} held-out embeddings are too few for a probe"
    if len(np.unique(split.train_labels)) < 2:
        return "the train labels have one class only"
    return None
