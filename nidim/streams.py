"""Counter-based random numbers: the same numbers on every machine, any row without the rows before it.

Philox4x64 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
key = (seed, 0), counter = (row, column, domain, 0), first word of the output. Its top 53 bits k become
u = k·2⁻⁵³ in [0, 1), with k = 0 moved to 2⁻⁵⁴ so that u is never 0 and an inverse cdf stays finite.
Integers are identical everywhere; a draw depends on its place alone, so pages agree with one big draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRIOR_DRAWS, NOISE_DRAWS, OF_VALUES, GENERATOR_DRAWS = 0, 1, 2, 3
"""Domains: independent streams for the same seed."""

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10
_MASK = 0xFFFFFFFFFFFFFFFF
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_BLOCK = 1 << 14  # values at a time: the working set stays in the cache

Words = NDArray[np.uint64]


def uniform53(seed: int, *, rows: tuple[int, int], d: int, domain: int = PRIOR_DRAWS) -> NDArray[np.float64]:
    """Uniform draws in (0, 1), shape (stop − start, d), for ``rows`` = (start, stop) of the stream ``seed``.

    Raises ValueError when ``seed`` or a row is outside [0, 2⁶⁴), or ``d`` < 1.
    """
    start, stop = rows
    if not 0 <= seed <= _MASK:
        raise ValueError(f"seed must be within [0, 2^64), got {seed}")
    if not 0 <= start <= stop <= _MASK:
        raise ValueError(f"rows must satisfy 0 <= start <= stop < 2^64, got {rows}")
    if d < 1:
        raise ValueError(f"d must be at least 1, got {d}")
    out = np.empty((stop - start, d), dtype=np.float64)
    columns = np.arange(d, dtype=np.uint64)
    height = max(1, _BLOCK // d)
    for low in range(0, stop - start, height):
        high = min(low + height, stop - start)
        row = np.arange(high - low, dtype=np.uint64) + np.uint64(start + low)
        word = philox_first_word(
            np.repeat(row, d), np.tile(columns, high - low), domain=domain, seed=seed
        ).reshape(high - low, d)
        out[low:high] = _unit(word)
    return out


def uniform_of(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """A uniform draw in (0, 1) for each row of x (n, d), shape (n,), that follows from the row's float32 values alone.

    One word of the generator after the other: the row of the counter is the word before (first 0), its column the bits
    of the next value. Equal rows give equal numbers, different rows independent ones.
    """
    with np.errstate(over="ignore"):
        bits = (np.asarray(x, dtype=np.float32) + np.float32(0)).view(np.uint32)  # adding 0 turns −0 into 0
    word = np.zeros(len(bits), dtype=np.uint64)
    for column in bits.T:
        word = philox_first_word(word, column.astype(np.uint64), domain=OF_VALUES, seed=0)
    return _unit(word)


def _unit(word: Words) -> NDArray[np.float64]:
    """The top 53 bits as a number in (0, 1)."""
    return np.maximum((word >> np.uint64(11)).astype(np.float64), 0.5) * 2.0**-53


def philox_first_word(row: Words, column: Words, *, domain: int, seed: int) -> Words:
    """First of the four output words for counters (row, column, domain, 0) and key (seed, 0)."""
    c0, c1 = row, column
    c2, c3 = np.full_like(row, domain), np.zeros_like(row)
    k0, k1 = seed, 0
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0


def _multiply(a: Words, constant: int) -> tuple[Words, Words]:
    """High and low 64 bits of the 128-bit product, by halves of 32 bits."""
    b_low, b_high = np.uint64(constant & 0xFFFFFFFF), np.uint64(constant >> 32)
    a_low, a_high = a & _LOW, a >> _HALF
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    cross = a_low * b_high + (middle & _LOW)
    high = a_high * b_high + (middle >> _HALF) + (cross >> _HALF)
    return high, a * np.uint64(constant)
