"""The sliced Epps–Pulley statistic against N(0, I) itself, no moments fitted, with its exact limit law.

For a unit vector a, the empirical characteristic function φ_n(t) = 1/n Σ_i e^{i t aᵀx_i} is compared with that
of N(0, 1) at the positive knots t_k of a Gauss–Hermite rule of weight e^{−t²/2} / √2π, weights w_k:

    T_a = n Σ_k 2w_k |φ_n(t_k) − e^{−t_k²/2}|²        T = mean over L random directions a

Under N(0, I_d), real and imaginary parts at all (a, t) converge to two independent Gaussian fields with

    Cov(cos(t aᵀx), cos(s bᵀx)) = ½(e^{−‖ta−sb‖²/2} + e^{−‖ta+sb‖²/2}) − e^{−(t²+s²)/2}
    Cov(sin(t aᵀx), sin(s bᵀx)) = ½(e^{−‖ta−sb‖²/2} − e^{−‖ta+sb‖²/2})

so T tends to Σ λ_k χ²_1 with the eigenvalues of these matrices. Its first four cumulants follow from traces;
the mean is exact for every n, and is the floor that T is compared with. The tail is the χ² matched to the
cumulants (Liu, Tang & Zhang 2009), good to about .002 where decisions fall.

References: Epps & Pulley 1983; Baringhaus & Henze 1988; Liu, Tang & Zhang 2009.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Distance, Outcome

Floats = NDArray[np.float64]

KNOTS = 6
_VALUES = 1 << 18  # projections held at a time


def knots() -> tuple[Floats, Floats]:
    """Positive knots t_k and weights 2w_k, both (6,); the weights of all knots sum to one."""
    t, w = np.polynomial.hermite_e.hermegauss(2 * KNOTS)
    return t[KNOTS:], 2 * w[KNOTS:] / math.sqrt(2 * math.pi)


def directions(d: int, count: int, *, seed: int) -> Floats:
    """Random unit vectors, columns of (d, L); one for d = 1, where there is no other."""
    if d == 1:
        return np.ones((1, 1))
    vectors = generator(seed, "directions").standard_normal((d, count))
    return vectors / np.linalg.norm(vectors, axis=0)


def slice_statistics(x: Floats, a: Floats) -> Floats:
    """T_a for every column of ``a`` (d, L), from ``x`` (n, d); shape (L,)."""
    n, slices = len(x), a.shape[1]
    t, w = knots()
    cos, sin = np.zeros((KNOTS, slices)), np.zeros((KNOTS, slices))
    step = max(1, _VALUES // slices)
    for i in range(0, n, step):
        projected = x[i : i + step] @ a
        for k in range(KNOTS):
            angle = t[k] * projected
            cos[k] += np.cos(angle).sum(axis=0)
            sin[k] += np.sin(angle).sum(axis=0)
    gap = np.square(cos / n - np.exp(-(t**2) / 2)[:, None]) + np.square(sin / n)
    return n * (w[:, None] * gap).sum(axis=0)


@dataclasses.dataclass(frozen=True)
class ChiSquareSum:
    """The law of Σ λ_k χ²_1 through c_j = Σ λ_k^j, j = 1…4."""

    c1: float
    c2: float
    c3: float
    c4: float

    @property
    def mean(self) -> float:
        return self.c1

    @property
    def sd(self) -> float:
        return math.sqrt(2 * self.c2)

    def sf(self, q: float) -> float:
        """P(sum > q), by the χ² (non-central if need be) with the same four cumulants."""
        s1, s2 = self.c3 / self.c2**1.5, self.c4 / self.c2**2
        if s1 * s1 > s2:
            a = 1 / (s1 - math.sqrt(s1 * s1 - s2))
            shift = s1 * a**3 - a * a
        else:
            a, shift = 1 / s1, 0.0
        freedom = a * a - 2 * shift
        standard = (q - self.mean) / self.sd
        point = standard * math.sqrt(2) * a + freedom + shift
        if point <= 0:
            return 1.0
        return float(
            special.chdtrc(freedom, point) if shift == 0 else 1 - special.chndtr(point, freedom, shift)
        )


def limit_law(a: Floats) -> ChiSquareSum:
    """The law of the mean of T_a over the columns of ``a`` (d, L), under N(0, I)."""
    t, w = knots()
    points = (a[:, :, None] * t).reshape(len(a), -1)
    weight = np.sqrt(np.tile(w, a.shape[1]) / a.shape[1])
    inner = points.T @ points
    own = np.diagonal(inner) / 2
    both = np.exp(-(own[:, None] + own[None, :]))
    even, odd = both * (np.cosh(inner) - 1), both * np.sinh(inner)
    sums = np.zeros(4)
    for kernel in (even, odd):
        matrix = weight[:, None] * kernel * weight
        square = matrix @ matrix
        sums += (np.trace(matrix), np.trace(square), (square * matrix).sum(), np.square(square).sum())
    return ChiSquareSum(*(float(s) for s in sums))


@functools.lru_cache(maxsize=64)
def limit_laws(d: int, slices: int, seed: int) -> tuple[ChiSquareSum, ChiSquareSum]:
    """The law of the mean over these directions, and of a single one; computed once a process."""
    a = directions(d, slices, seed=seed)
    return limit_law(a), limit_law(a[:, :1])


@dataclasses.dataclass(frozen=True)
class Sliced:
    """The sliced test on one set of embeddings."""

    mean: Outcome
    worst: Outcome
    distance: Distance


def sliced(x: Floats, *, slices: int, seed: int) -> Sliced:
    """Mean and worst random projection of ``x`` (n, d) against N(0, I)."""
    n, d = x.shape
    a = directions(d, slices, seed=seed)
    count = a.shape[1]
    values, (law, single) = slice_statistics(x, a), limit_laws(d, slices, seed)
    mean, worst = float(values.mean()), float(values.max())
    return Sliced(
        mean=Outcome.of(mean, law.sf(mean), n=n, method=f"mean of {count} slices, Σ λ χ² limit law"),
        worst=Outcome.of(
            worst, count * single.sf(worst), n=n, method=f"largest of {count} slices, limit law, Bonferroni"
        ),
        distance=Distance(
            value=math.sqrt(mean / n),
            floor=math.sqrt(law.mean / n),
            floor_sd=law.sd / (2 * math.sqrt(law.mean * n)),
            ratio=math.sqrt(mean / law.mean),
            n=n,
            definition=f"Epps–Pulley to N(0, 1), root of the mean of {count} slices; exact floor",
        ),
    )
