"""The stages of an evaluation, one section of the report each; a section that cannot be is None, with a reason."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nidim.conformal import conformal
from nidim.drift import LEAST_IMAGES, calibrate
from nidim.evaluate import certificate as certificates
from nidim.evaluate import clustering as clusters
from nidim.evaluate import laws
from nidim.evaluate import probes as probing
from nidim.evaluate import representation as representing
from nidim.evaluate.battery import MIN_ROWS, Effort, battery
from nidim.evaluate.report import (
    Battery,
    Calibration,
    Certificate,
    Clustering,
    Probes,
    Representation,
    TrainedOn,
)
from nidim.evaluate.trained_on import trained_on
from nidim.priors import GaussianPrior, Prior

Progress = Callable[[float], None]

_STARTS_AT = {
    "clean": 0.0,
    "noisy": 0.1,
    "certificate": 0.2,
    "trained_on": 0.23,
    "calibration": 0.235,
    "representation": 0.24,
    "probes": 0.25,
    "linear probe": 0.25,
    "nearest neighbours": 0.3,
    "MLP probe": 0.4,
    "clustering": 0.97,
}
"""Share of the work that is done when a stage starts; the MLP probe takes most of it."""


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Clean embeddings of a train and a held-out set, (n, d) each, with labels (n,) where there are any.

    ``views``: of v augmented views of each of m held-out images, (m, v, d).
    """

    train: NDArray[np.floating]
    train_labels: NDArray[np.int64] | None
    test: NDArray[np.floating]
    test_labels: NDArray[np.int64] | None
    views: NDArray[np.floating] | None = None


class Stages:
    """The stages of one evaluation: times each, and keeps why a section is absent."""

    def __init__(
        self,
        embedded: Embedded,
        prior: Prior,
        noisy: Prior,
        *,
        seed: int,
        effort: Effort,
        progress: Progress | None,
    ) -> None:
        self._embedded, self._prior, self._noisy = embedded, prior, noisy
        self._seed, self._effort = seed, effort
        self._report = progress or (lambda _: None)
        self.absent: dict[str, str] = {}
        self.wall_s: dict[str, float] = {}

    def finished(self) -> None:
        """All stages are done."""
        self._report(1.0)

    def _starts(self, stage: str) -> None:
        self._report(_STARTS_AT[stage])

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._starts(name)
        start = time.perf_counter()
        yield
        self.wall_s[name] = round(time.perf_counter() - start, 3)

    def clean(self) -> Battery | None:
        """The clean held-out embeddings against the prior."""
        return self._battery(self._embedded.test, self._prior, "clean")

    def noisy(self, epsilon: float) -> Battery | None:
        """The held-out embeddings with uniform noise against the noisy law."""
        values = laws.noisy_embeddings(
            self._embedded.test, self._prior, sigma=None, epsilon=epsilon, seed=self._seed
        )
        return None if values is None else self._battery(values, self._noisy, "noisy")

    def _battery(
        self, x: NDArray[np.floating], prior: Prior, which: Literal["clean", "noisy"]
    ) -> Battery | None:
        if len(x) < MIN_ROWS:
            self.absent[which] = f"{len(x)} held-out embeddings; the tests need {MIN_ROWS}"
            return None
        with self._stage(which):
            found, absent = battery(
                x, prior, which=which, law=prior.name, effort=self._effort, seed=self._seed
            )
        self.absent |= absent
        if prior.drawn:
            self.absent[f"{which}.radius"] = prior.drawn
        return found

    def certificate(self, sigma: float | None, epsilon: float | None) -> Certificate | None:
        """The certificate of the noise, or None with the reason."""
        f, needed = self._embedded.test, certificates.MIN_ROWS
        if sigma is None and epsilon is None:
            self.absent["certificate"] = (
                "the encoder was trained without noise, and no noise to judge it by was given"
            )
            return None
        if len(f) < needed:
            self.absent["certificate"] = f"{len(f)} held-out embeddings; a certificate needs {needed}"
            return None
        with self._stage("certificate"):
            if epsilon is not None:
                law = self._noisy.name
                return certificates.uniform_certificate(f, epsilon=epsilon, law=law, seed=self._seed)
            return self._gaussian(f, sigma or 0.0)

    def _gaussian(self, f: NDArray[np.floating], sigma: float) -> Certificate:
        scores = laws.finite_scores(f, self._prior)[0]
        noisy = GaussianPrior(self._prior.dim, scale=float(np.hypot(1.0, sigma)))
        law = self._noisy.name if self._prior.through_normal else noisy.name
        return certificates.gaussian_certificate(scores, sigma=sigma, law=law, seed=self._seed)

    def trained_on(self) -> TrainedOn | None:
        """The match of training images, or None with the reason."""
        n = min(len(self._embedded.train), len(self._embedded.test))
        if laws.is_sigmoid(self._prior):
            self.absent["trained_on"] = "the promise is about the noisy embedding"
            return None
        if n < MIN_ROWS:
            self.absent["trained_on"] = f"{n} embeddings to compare; the tests need {MIN_ROWS}"
            return None
        with self._stage("trained_on"):
            return trained_on(self._embedded.train, n, self._prior, effort=self._effort, seed=self._seed)

    def calibration(self) -> Calibration | None:
        """What outliers and drift are measured by, or None with the reason."""
        f = self._embedded.test
        if len(f) < LEAST_IMAGES:
            self.absent["calibration"] = f"{len(f)} held-out embeddings; a calibration needs {LEAST_IMAGES}"
            return None
        with self._stage("calibration"):
            return Calibration(
                conformal=conformal(self._prior.outlyingness(f)),
                tolerance=calibrate(self._prior.normal_scores(f)),
            )

    def representation(self) -> Representation | None:
        """What views of held-out images show without labels, or None with the reason."""
        views = self._embedded.views
        why = "no views of the held-out images" if views is None else representing.why_not(views)
        if views is None or why:
            self.absent["representation"] = why or "no views of the held-out images"
            return None
        with self._stage("representation"):
            return representing.representation(views)

    def probes(self, *, train_max: int | None) -> Probes | None:
        """Accuracies, or None with the reason."""
        split = self._split()
        why = "no labels" if split is None else probing.why_not(split)
        if split is None or why:
            self.absent["probes"] = why or "no labels"
            return None
        with self._stage("probes"):
            return probing.probes(
                split,
                seed=self._seed,
                with_mlp=self._effort.mlp,
                train_max=train_max,
                progress=self._starts,
            )

    def clustering(self) -> Clustering | None:
        """How the classes lie, or None with the reason."""
        labels, x = self._embedded.test_labels, self._embedded.test
        why = "no labels" if labels is None else clusters.why_not(x, labels)
        if labels is None or why:
            self.absent["clustering"] = why or "no labels"
            return None
        with self._stage("clustering"):
            return clusters.clustering(x, labels, seed=self._seed)

    def _split(self) -> probing.Split | None:
        e = self._embedded
        if e.train_labels is None or e.test_labels is None:
            return None
        return probing.Split(e.train, e.train_labels, e.test, e.test_labels)
