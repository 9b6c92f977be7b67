"""The BHEP test against N(0, I) itself: Henze–Zirkler's statistic with nothing fitted.

    T = 1/n Σ_ij e^{−β²‖x_i−x_j‖²/2} − 2(1+β²)^{−d/2} Σ_i e^{−β²‖x_i‖²/(2(1+β²))} + n(1+2β²)^{−d/2}

n times the weighted L² distance between the empirical characteristic function and that of N(0, I_d). Its kernel
is narrow, so it sees what projections and energy distances miss in some ten dimensions: points that lie on a thin
set pair up more closely than true draws do. β is that of Henze–Zirkler for 64 points, kept below β²d = 16, beyond
which no two points would be neighbours. p from T on simulated sets of the same size: exact at every n and d.

Reference: Baringhaus & Henze 1988; Henze & Zirkler 1990.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate.draws import generator
from nidim.evaluate.henze_zirkler import SIZE, beta2, distance
from nidim.evaluate.report import Outcome

Floats = NDArray[np.float64]

_WIDEST = 16.0


def bandwidth(d: int) -> float:
    """β² of the kernel in dimension ``d``."""
    return min(beta2(SIZE, d), _WIDEST / d)


def statistic(x: Floats) -> float:
    """T of ``x`` (n, d)."""
    return distance(x, bandwidth(x.shape[1]))


@functools.lru_cache(maxsize=64)
def null(n: int, d: int, sets: int) -> Floats:
    """T of ``sets`` sets of n true draws; computed once a process."""
    draws = (generator(seed, f"bhep null {n} {d}").standard_normal((n, d)) for seed in range(sets))
    values = np.array([statistic(x) for x in draws])
    values.setflags(write=False)
    return values


def bhep(x: Floats, *, sets: int) -> Outcome:
    """The test of ``x`` (n, d), p by ``sets`` simulated sets."""
    n, d = x.shape
    value, simulated = statistic(x), null(n, d, sets)
    p = (1 + float((simulated >= value).sum())) / (1 + sets)
    return Outcome.of(
        value, p, n=n, method=f"kernel β² = {bandwidth(d):.2g}, {sets} simulated sets of true draws"
    )
