"""The certificate: how far the law of the noisy embedding is from its target, in nats.

Gaussian noise Z ~ N(0, σ²I), held-out means μ_k and variances s_k² of the clean embedding, an identity:

    KL( law(f(X)+Z) ‖ N(0, (1+σ²)I) ) = C(σ) + ½ Σ_k (s_k² + μ_k² − 1)/(1 + σ²) − I(f(X); f(X)+Z)

Uniform noise Z ~ U([−ε, ε]^d), f(X) within [0, 1]^d:

    KL( law(f(X)+Z) ‖ U([−ε, 1+ε]^d) ) ≤ C(ε) − I(f(X); f(X)+Z)

The information is bounded from below by InfoNCE with the exact critic, which has no parameter: row i is
v_i = f(x_i) + z_i, the candidates are all held-out f(x_j),

    Î = log n − 1/n Σ_i log Σ_j e^{T_ij − T_ii}    T_ij = −‖v_i − f(x_j)‖²/2σ²   (Gaussian)
                                                   T_ij = 0 if ‖v_i − f(x_j)‖_∞ ≤ ε, else −∞   (uniform)

so in expectation the value is never below the KL. Î never exceeds log n, so even true draws of the target do not come
to 0: ``kl_floor_nats`` is the value of as many of them, and what lies above it speaks of the embedding. The uniform
law through Φ is certified on normal scores, under which KL does not change.

The upper end of the one-sided 95 % interval comes from a delete-a-block jackknife over disjoint blocks of
images, each left out as anchors and as candidates at once. (Pairs are never resampled with replacement:
duplicates among the candidates would bias Î.) It speaks of the *noisy* law, at this σ or ε. Simulated with embeddings
of one coordinate whose KL is known (n = 64 to 1,000, σ = .2 to 3; benchmarks/coverage.py): the end was above it in 91
to 99 % of sets of Gaussian or heavy-tailed ones, fewest where Î is nowhere near log n, for there nothing but this
interval is on the safe side; in fewer, 71 % at n = 64, where 2 % of the points lie seven deviations away: a small
set may have none of them.

References: van den Oord et al. 2018; McAllester & Stratos 2020 for the ceiling; Efron & Stein 1981.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nidim.evaluate.draws import generator
from nidim.evaluate.moments import squared_norms
from nidim.evaluate.report import Certificate
from nidim.spec.channel import LEAST_HELDOUT, MOST_HELDOUT, certifiable, gaussian_capacity, uniform_capacity

Floats = NDArray[np.float64]

MIN_ROWS = LEAST_HELDOUT
"""Held-out embeddings below which the jackknife has no footing."""
MAX_ROWS = MOST_HELDOUT
"""Of more, as many at random: the work grows with the square, the ceiling log n with the logarithm."""
BLOCKS = MIN_ROWS // 2
MOST_FLOOR_SETS, FLOOR_PAIRS = 16, 6 * 10**8
"""Sets of true draws: many where they are few and scatter, one where each takes long and hardly does."""
_ENTRIES = 1 << 17  # scores held at a time: a megabyte stays in the cache
_EXP_MAX = 700.0
_DENSE_COORDINATES = 3


def gaussian_partition(v: Floats, f: Floats, sigma: float, edges: NDArray[np.int64]) -> Floats:
    """Σ_j e^{T_ij − T_ii} over the candidates of each block, shape (n, blocks), for v = f + Z, both (n, d).

    Row i of ``v`` belongs to row i of ``f``; block b holds the candidates [edges_b, edges_{b+1}).
    """
    sums = np.empty((len(v), len(edges) - 1))
    half = squared_norms(f) / 2
    own = np.einsum("id,id->i", v, f) - half
    # T_ij ≤ 0, whatever rounding says
    most = np.minimum(squared_norms(v - f) / (2 * sigma**2), _EXP_MAX)[:, None]
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        step = max(1, _ENTRIES // (high - low))
        for i in range(0, len(v), step):
            part = slice(i, i + step)
            scores = v[part] @ f[low:high].T
            scores -= half[low:high]
            scores -= own[part, None]
            scores *= sigma**-2
            np.minimum(scores, most[part], out=scores)
            itself = np.arange(max(i, low), min(i + step, high))
            scores[itself - i, itself - low] = 0.0
            sums[part, b] = np.exp(scores, out=scores).sum(axis=1)
    return sums


def uniform_partition(v: Floats, f: Floats, epsilon: float, edges: NDArray[np.int64]) -> Floats:
    """Candidates of each block within ε of v_i in every coordinate, shape (n, blocks); the own one counts."""
    n, d = v.shape
    counts = np.zeros((n, len(edges) - 1))
    block_of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    step = max(1, _ENTRIES // n)
    dense = np.ascontiguousarray(f[:, :_DENSE_COORDINATES].T)
    for i in range(0, n, step):
        part = v[i : i + step]
        near = np.ones((len(part), n), dtype=bool)
        for k, values in enumerate(dense):
            near &= np.abs(part[:, k, None] - values) <= epsilon
        row, column = np.nonzero(near)
        for k in range(_DENSE_COORDINATES, d):
            inside = np.abs(part[row, k] - f[column, k]) <= epsilon
            row, column = row[inside], column[inside]
        others = column != row + i  # the own candidate is inside by construction, whatever the rounding
        np.add.at(counts, (row[others] + i, block_of[column[others]]), 1.0)
    counts[np.arange(n), block_of] += 1.0
    return counts


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """A mean over rows of something that depends on all rows, with its delete-a-block standard error."""

    value: float
    se: float
    information: float


def jackknife(partition: Floats, offset: Floats, edges: NDArray[np.int64]) -> Jackknife:
    """mean(offset) − Î from Σ_j e^{T_ij − T_ii} per block (n, B); ``offset`` (n,) is averaged over the anchors."""
    n, blocks = partition.shape
    information = math.log(n) - float(np.log(partition.sum(axis=1)).mean())
    without = np.log(partition @ (1.0 - np.eye(blocks)) + np.finfo(np.float64).tiny)
    replicates = np.empty(blocks)
    for b in range(blocks):
        kept = np.r_[0 : edges[b], edges[b + 1] : n]
        replicates[b] = offset[kept].mean() - math.log(len(kept)) + without[kept, b].mean()
    spread = np.square(replicates - replicates.mean()).sum() * (blocks - 1) / blocks
    return Jackknife(float(offset.mean()) - information, math.sqrt(spread), information)


def gaussian_certificate(f: NDArray[np.floating], *, sigma: float, law: str, seed: int = 0) -> Certificate:
    """Certificate of clean embeddings ``f`` (n, d) under noise N(0, σ²I), σ > 0; n at least 64.

    Raises ValueError for another shape or σ, fewer rows, and numbers that are not finite.
    """
    _require_positive("sigma", sigma)
    clean, edges = _shuffled(f, seed)
    v = generator(seed, "certificate noise").standard_normal(clean.shape)
    v *= sigma
    v += clean
    moments = squared_norms(clean) / (2 * (1 + sigma**2)) - clean.shape[1] / (2 * (1 + sigma**2))
    capacity = gaussian_capacity(clean.shape[1], sigma)
    found = jackknife(gaussian_partition(v, clean, sigma, edges), capacity + moments, edges)
    floor = gaussian_floor(*clean.shape, sigma=sigma)
    return _certificate(found, clean.shape, law, capacity, float(moments.mean()), sigma=sigma, floor=floor)


@functools.lru_cache(maxsize=64)
def gaussian_floor(n: int, d: int, *, sigma: float) -> float:
    """``kl_bound_nats`` of ``n`` true draws of N(0, I_d) under noise N(0, σ²I), a mean over the same few sets."""
    rng = generator(0, "certificate floor")
    edges, found = np.array([0, n]), []
    for _ in range(max(1, min(MOST_FLOOR_SETS, MAX_ROWS // n, FLOOR_PAIRS // n**2))):
        clean = rng.standard_normal((n, d))
        v = clean + sigma * rng.standard_normal(clean.shape)
        moments = float(squared_norms(clean).mean() - d) / (2 * (1 + sigma**2))
        information = math.log(n) - float(np.log(gaussian_partition(v, clean, sigma, edges)).mean())
        found.append(gaussian_capacity(d, sigma) + moments - information)
    return float(np.mean(found))


def uniform_certificate(f: NDArray[np.floating], *, epsilon: float, law: str, seed: int = 0) -> Certificate:
    """Certificate of clean embeddings ``f`` (n, d) within [0, 1]^d under noise U([−ε, ε]^d), ε > 0; n at least 64.

    Raises ValueError as :func:`gaussian_certificate` does, and for embeddings outside.
    """
    _require_positive("epsilon", epsilon)
    clean, edges = _shuffled(f, seed)
    if clean.min() < 0 or clean.max() > 1:
        raise ValueError("f: the certificate of uniform noise is for embeddings within [0, 1]")
    v = generator(seed, "certificate noise").uniform(-epsilon, epsilon, clean.shape)
    v += clean
    capacity = uniform_capacity(clean.shape[1], epsilon)
    partition = uniform_partition(v, clean, epsilon, edges)
    found = jackknife(partition, np.full(len(clean), capacity), edges)
    return _certificate(found, clean.shape, law, capacity, 0.0, epsilon=epsilon)


def _shuffled(f: NDArray[np.floating], seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Rows in random order (a set sorted by class has no exchangeable blocks), and the edges of the blocks."""
    if np.ndim(f) != 2:
        raise ValueError(f"f: a certificate needs embeddings (n, d), got shape {np.shape(f)}")
    if not np.isfinite(f).all():
        raise ValueError("f: a certificate needs embeddings of finite numbers")
    n = len(f)
    if n < MIN_ROWS:
        raise ValueError(f"f: a certificate needs at least {MIN_ROWS} held-out embeddings, got {n}")
    rows = generator(seed, "certificate order").permutation(n)[:MAX_ROWS]
    return f[rows].astype(np.float64), np.linspace(0, len(rows), BLOCKS + 1).astype(np.int64)


def _require_positive(name: str, level: float) -> None:
    if not 0 < level < math.inf:
        raise ValueError(f"{name}: a certificate needs noise of a finite level above 0, got {level:g}")


def _certificate(
    found: Jackknife,
    shape: tuple[int, ...],
    law: str,
    capacity: float,
    moments: float,
    *,
    sigma: float | None = None,
    epsilon: float | None = None,
    floor: float | None = None,
) -> Certificate:
    n, d = shape
    ceiling = math.log(n)
    flag = "out_of_reach" if capacity > certifiable(d, n) else "ok"
    return Certificate(
        law=law,
        sigma=sigma,
        epsilon=epsilon,
        capacity_nats=capacity,
        information_nats=found.information,
        ceiling_nats=ceiling,
        moment_nats=moments,
        kl_bound_nats=found.value,
        kl_bound_se_nats=found.se,
        kl_bound_upper95_nats=found.value + float(special.stdtrit(BLOCKS - 1, 0.95)) * found.se,
        best_reachable_nats=max(capacity - ceiling, 0.0),
        kl_floor_nats=floor,
        kl_flag="negative" if found.value < 0 else flag,
        n=n,
        blocks=BLOCKS,
    )
