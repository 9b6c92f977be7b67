"""How near to the law the images lie that were trained on.

What held-out ones are farther away is generalisation, or they are images of another kind: of MNIST, by other writers
(``benchmarks/mnist_writers.py``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import henze_zirkler
from nidim.evaluate.battery import Effort
from nidim.evaluate.distances import sliced_wasserstein
from nidim.evaluate.draws import generator
from nidim.evaluate.laws import finite_scores
from nidim.evaluate.report import ALPHA, TrainedOn
from nidim.priors import Prior


def trained_on(
    train: NDArray[np.floating], n: int, prior: Prior, *, effort: Effort, seed: int = 0
) -> TrainedOn:
    """The match of ``n`` rows of ``train`` (m, d), m at least n, drawn at random: as many as were held out, so that
    the floors are theirs."""
    rows = generator(seed, "trained on").permutation(len(train))[:n]
    x = train[rows].astype(np.float64)
    s, _ = finite_scores(x, prior)
    p = None
    if henze_zirkler.why_not(*s.shape) is None:
        p = henze_zirkler.subsample_p(s, subsamples=effort.hz_subsamples, seed=seed)
    return TrainedOn(
        n=n,
        sw2=sliced_wasserstein(x, s, prior, settings=effort.distances)["sw2"],
        hz_p=None if p is None else float(p.mean()),
        hz_reject=None if p is None else float((p < ALPHA).mean()),
    )
