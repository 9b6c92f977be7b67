"""Everything that compares one set of embeddings with one law with independent coordinates.

The law is carried to N(0, I) by its normal scores, and all tests are made there; the sliced Wasserstein distance and
``own_scale`` stay in the law's own scale.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate import henze_zirkler, shape, simple
from nidim.evaluate.bhep import bhep
from nidim.evaluate.distances import Settings, distances
from nidim.evaluate.draws import generator
from nidim.evaluate.epps_pulley import Sliced, sliced
from nidim.evaluate.laws import finite_scores
from nidim.evaluate.own_scale import own_scale
from nidim.evaluate.pairs import energy_test
from nidim.evaluate.report import Battery, FittedTests, SimpleTests
from nidim.priors import Prior

Floats = NDArray[np.float64]

MIN_ROWS = 20
"""Fewer embeddings than this say nothing about a law."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much work an evaluation does; the statistics stay the same."""

    hz_subsamples: int = 1024
    hz_null_sets: int = henze_zirkler.NULL_SETS
    bhep_rows: int = 600
    bhep_sets: int = 199
    energy_rows: int = 2000
    energy_permutations: int = 999
    distances: Settings = dataclasses.field(default_factory=Settings)
    mlp: bool = True


FULL = Effort()
QUICK = Effort(
    hz_subsamples=256,
    hz_null_sets=24,
    bhep_rows=300,
    bhep_sets=99,
    energy_rows=500,
    energy_permutations=199,
    distances=Settings(slices=32, pair_rows=1024, floor_sets=4),
    mlp=False,
)


def battery(
    x: NDArray[np.floating],
    prior: Prior,
    *,
    which: Literal["clean", "noisy"],
    law: str,
    effort: Effort = FULL,
    seed: int = 0,
) -> tuple[Battery, dict[str, str]]:
    """All tests and distances of ``x`` (n, d), n at least 20, to ``prior``; and why some are absent."""
    rows = generator(seed, "order").permutation(len(x))
    values = x[rows].astype(np.float64)  # a file sorted by class must not decide who is a subsample
    s, outside = finite_scores(values, prior)
    slices = sliced(s, slices=effort.distances.slices, seed=effort.distances.seed)
    fitted, absent = fitted_tests(
        s, subsamples=effort.hz_subsamples, null_sets=effort.hz_null_sets, seed=seed
    )
    result = Battery(
        embeddings=which,
        law=law,
        n=len(s),
        outside=outside,
        collapsed=int((np.ptp(s, axis=0) == 0).sum()),
        fitted=fitted,
        simple=simple_tests(s, slices, effort=effort, seed=seed),
        distances=distances(values, s, prior, slices.distance, settings=effort.distances),
        own_scale=own_scale(
            values, prior, sets=effort.distances.floor_sets, values=effort.distances.own_values
        ),
    )
    return result, {f"{which}.fitted.{name}": why for name, why in absent.items()}


def fitted_tests(
    s: Floats, *, subsamples: int, seed: int, null_sets: int = henze_zirkler.NULL_SETS
) -> tuple[FittedTests, dict[str, str]]:
    """Tests of the shape of ``s`` (n, d), moments fitted; and why some are absent."""
    n, d = s.shape
    absent = {}
    protocol = None
    if why := henze_zirkler.why_not(n, d):
        absent["henze_zirkler"] = why
    else:
        protocol = henze_zirkler.protocol(s, subsamples=subsamples, seed=seed, null_sets=null_sets)
    y = shape.whiten(s) if n > d + 1 else None
    skewness = kurtosis = None
    if y is None:
        why = "the covariance is singular"
        absent |= {"mardia_skewness": why, "mardia_kurtosis": why}
    else:
        skewness, kurtosis = shape.mardia_skewness(y), shape.mardia_kurtosis(y)
        if skewness is None:
            absent["mardia_skewness"] = f"its law needs n above d(d+1)(d+2)/6; n = {n}, d = {d}"
    tests = FittedTests(
        henze_zirkler=protocol, mardia_skewness=skewness, mardia_kurtosis=kurtosis, **shape.all_marginals(s)
    )
    return tests, absent


def simple_tests(s: Floats, slices: Sliced, *, effort: Effort, seed: int) -> SimpleTests:
    """Tests of ``s`` (n, d) against N(0, I) itself."""
    return SimpleTests(
        ks=simple.ks(s),
        chi2=simple.chi2(s),
        mean=simple.mean(s),
        covariance=simple.covariance(s),
        radius=simple.radius(s),
        bhep=bhep(s[: effort.bhep_rows], sets=effort.bhep_sets),
        energy=energy_test(s[: effort.energy_rows], permutations=effort.energy_permutations, seed=seed),
        sliced_epps_pulley=slices.mean,
        worst_slice=slices.worst,
    )
