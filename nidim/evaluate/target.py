"""How well a flow fits the sample that it was fitted to, on points that it never saw: no fault of the encoder.

An encoder can follow its prior exactly and still miss the user's sample, where the flow does. Here the flow alone is
judged: the log-likelihood of the held-out points, beside that of a Gaussian with the moments of the fitted ones; and
the sliced Wasserstein-2 between them and as many draws, over the same between two sets of as many points of the sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nidim.evaluate.distances import Settings
from nidim.evaluate.draws import generator
from nidim.evaluate.epps_pulley import directions
from nidim.evaluate.report import Distance, TargetFit
from nidim.evaluate.wasserstein import mean_and_worst, squared_to_sample
from nidim.priors import FlowPrior
from nidim.priors.flow import parts_of

Floats = NDArray[np.float64]
DRAWS_SEED = 3_000_001


def target_fit(prior: FlowPrior, settings: Settings) -> TargetFit:
    """The fit of ``prior`` to its sample."""
    parts, points = parts_of(len(prior.points)), prior.points
    fitted, heldout = points[parts.fitted], points[parts.heldout]
    moments = stats.multivariate_normal(fitted.mean(0), np.cov(fitted, rowvar=False))
    a = directions(prior.dim, settings.slices, seed=settings.seed)
    seeds = range(DRAWS_SEED, DRAWS_SEED + settings.floor_sets)
    draws = (prior.sample(len(heldout), seed=seed).astype(np.float64) for seed in seeds)
    value = float(np.mean([_distance(heldout, drawn, a) for drawn in draws]))
    floors = np.array([_between_halves(points, len(heldout), a, seed=seed) for seed in seeds])
    return TargetFit(
        n=len(points),
        n_heldout=len(heldout),
        steps=prior.steps,
        heldout_nats=float(prior.log_prob(heldout).mean()),
        gaussian_nats=float(np.mean(moments.logpdf(heldout))),
        sw2=Distance(
            value=value,
            floor=float(floors.mean()),
            floor_sd=float(floors.std(ddof=1)),
            ratio=value / max(float(floors.mean()), np.finfo(np.float64).tiny),
            n=len(heldout),
            definition="Wasserstein-2, root mean square of random projections: held-out points against as many draws "
            "of the flow; floor: between two disjoint sets of as many points of the sample",
        ),
    )


def _distance(x: Floats, y: Floats, a: Floats) -> float:
    return mean_and_worst(squared_to_sample(x, y, a))["sw2"]


def _between_halves(points: Floats, size: int, a: Floats, *, seed: int) -> float:
    rows = generator(seed, "halves of a sample").permutation(len(points))[: 2 * size]
    return _distance(points[rows[:size]], points[rows[size:]], a)
