"""The monitor for a program of one's own: embeddings in, a verdict out.

monitor = Monitor(prior, tolerance, images_between_false_alarms=1_000_000)
for embeddings in stream:
    if monitor.update(embeddings).alarm: ...
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nidim.drift.features import Floats, features
from nidim.drift.state import BLOCK, State, advance
from nidim.drift.summary import Summary, summary
from nidim.drift.tolerance import Tolerance
from nidim.priors.base import Prior


def watched(prior: Prior, embeddings: ArrayLike) -> Floats:
    """The features (m, K) of those of the embeddings (n, d) that are numbers. Raises ValueError for another shape."""
    x = np.asarray(embeddings)
    if x.ndim != 2 or x.shape[1] != prior.dim:
        raise ValueError(f"embeddings must be (n, {prior.dim}), got shape {x.shape}")
    scores = prior.normal_scores(x[~np.isnan(x).any(axis=1)])
    return features(scores[~np.isnan(scores).any(axis=1)])


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the monitor says now; ``p_value``: valid at any time, of all images since the beginning."""

    alarm: bool
    n: int
    p_value: float


class Monitor:
    """Watches clean embeddings of one encoder against its ``prior`` within ``tolerance``.

    ``images_between_false_alarms``: of a healthy stream, at least so many on average. ``state``: go on from there; it
    is what ``monitor.state.to_json()`` gave, and holds no image. Raises ValueError where these do not fit together.
    """

    def __init__(
        self,
        prior: Prior,
        tolerance: Tolerance | None = None,
        *,
        images_between_false_alarms: float = 1e6,
        state: dict[str, Any] | None = None,
    ) -> None:
        if not images_between_false_alarms > 1:
            raise ValueError("images_between_false_alarms must be more than 1")
        self.prior = prior
        self.tolerance = tolerance or Tolerance.exact(prior.dim)
        self.state = State.empty(prior.dim) if state is None else State.from_json(state)
        if {self.tolerance.dim, self.state.dim} != {prior.dim}:
            raise ValueError(
                f"prior, tolerance and state are of d = {prior.dim}, {self.tolerance.dim}, {self.state.dim}"
            )
        self._log_threshold = math.log(images_between_false_alarms)
        self._alarm = self.state.log_detection >= self._log_threshold

    def update(self, embeddings: ArrayLike) -> Verdict:
        """Take in embeddings (n, d) as they came; rows that are not numbers are skipped. An alarm stays until reset."""
        values = watched(self.prior, embeddings)
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            self.state = advance(self.state, block, self.tolerance, weight=len(block))
            self._alarm |= self.state.log_detection >= self._log_threshold
        return self.verdict

    @property
    def verdict(self) -> Verdict:
        """What is known so far."""
        return Verdict(self._alarm, self.state.n, math.exp(-self.state.log_peak))

    @property
    def summary(self) -> Summary:
        """Where the embeddings are, and which coordinate is the worst."""
        return summary(self.state, self.tolerance)

    def reset(self) -> None:
        """Begin anew."""
        self.state, self._alarm = State.empty(self.prior.dim), False
