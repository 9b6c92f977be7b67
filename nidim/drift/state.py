"""What is remembered: sums of the features, and how much the bets on them have won. No image, no embedding.

A *bet* on a group of features is a direction λ; an image multiplies the wealth by 1 + λ·φ − sup_{μ ∈ C} λ·μ, which is
at most 1 in expectation whenever the mean of φ is tolerated, and never below 1 − STAKE. So wealth is an e-process: it
grows beyond 1/α with probability at most α, however long one looks. λ is set before the images come, as what the recent
images lie beyond the tolerance; "recent" by three half-lives, since drifts come sudden and slow. Each pair (group,
half-life) is a *channel*; the average over channels is an e-process again.

``Tally``  sums over images under given bets. Tallies of several processes add up, in any order.
``State``  tallies absorbed one after the other; bets follow from it.

The detector is the e-CUSUM  M ← max(w, M)·E  of every channel, averaged (E: what a tally multiplied the wealth by; w:
what a change at this moment is given to bet with). It is at most the Shiryaev–Roberts sum over all starts, whose
expectation is at most the sum of all w; so the expected sum of w until M first reaches A is at least A. With w in days,
false alarms come less than once in A days.

References: Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting; Shin, Ramdas & Rinaldo
2023, E-detectors: a nonparametric framework for sequential change detection; James & Stein 1961.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nidim.drift.features import Floats, layout
from nidim.drift.tolerance import Region, Tolerance

VERSION = 1
HALF_LIVES = (200.0, 2_000.0, 20_000.0)
"""Images after which a seen image counts half in a bet."""
STAKE = 0.9
"""The largest share of its wealth that a channel can lose by one image."""
BLOCK = 128
"""Images that are bet on before the bets are placed anew."""
_MOST_LOG = 1e6


@dataclasses.dataclass(frozen=True)
class Bets:
    """λ of each channel, (K, c), and sup λ·μ of it, (c,)."""

    directions: Floats
    offsets: Floats


@dataclasses.dataclass(frozen=True)
class Tally:
    """n images: sums of their features (K,), and the logarithm of what each channel's wealth was multiplied by (c,)."""

    n: int
    sums: Floats
    log_wealth: Floats

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.n + other.n, self.sums + other.sums, self.log_wealth + other.log_wealth)


@dataclasses.dataclass(frozen=True)
class State:
    """Everything since the reset.

    ``recent`` (h, K), its ``weights`` (h,) and their ``squares`` (h,) forget by the half-lives; ``log_detector`` (c,)
    and ``log_evidence`` (c,) are the logarithms of M and of the wealth since the reset; ``log_peak``: of the largest
    average wealth so far.
    """

    dim: int
    n: int
    sums: Floats
    recent: Floats
    weights: Floats
    squares: Floats
    log_detector: Floats
    log_evidence: Floats
    log_peak: float

    @classmethod
    def empty(cls, dim: int) -> State:
        """Nothing seen."""
        columns, h = layout(dim), len(HALF_LIVES)
        c = h * len(columns.groups)
        none = np.full(c, -np.inf)
        zeros = np.zeros(columns.size)
        return cls(dim, 0, zeros, np.zeros((h, len(zeros))), np.zeros(h), np.zeros(h), none, np.zeros(c), 0.0)

    @property
    def log_detection(self) -> float:
        """log of the average M; −∞ before the first image."""
        return log_mean(self.log_detector)

    @property
    def log_wealth(self) -> float:
        """log of the average wealth since the reset."""
        return log_mean(self.log_evidence)

    def means(self, half_life: int | None = None) -> Floats:
        """Mean features (K,) since the reset, or of the recent images by the half-life of this index."""
        if half_life is None:
            return self.sums / max(self.n, 1)
        return self.recent[half_life] / max(float(self.weights[half_life]), 1e-300)

    def to_json(self) -> dict[str, Any]:
        """JSON values; :meth:`from_json` reads them back."""
        values = {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "log_detector"
        }
        values["log_detector"] = [None if x == -np.inf else x for x in self.log_detector.tolist()]
        return {"version": VERSION, **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> State:
        """Raises ValueError for another version, or for what is no state."""
        if values.get("version") != VERSION:
            raise ValueError(f"the state has version {values.get('version')}; this one reads {VERSION}")
        try:
            detector = [-np.inf if x is None else x for x in values["log_detector"]]
            arrays = ("sums", "recent", "weights", "squares", "log_evidence")
            read = cls(
                dim=int(values["dim"]),
                n=int(values["n"]),
                log_detector=np.array(detector, dtype=np.float64),
                log_peak=float(values["log_peak"]),
                **{name: np.array(values[name], dtype=np.float64) for name in arrays},
            )
            expected = cls.empty(read.dim)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a state of the drift monitor: {error}") from error
        for name in (*arrays, "log_detector"):
            if getattr(read, name).shape != getattr(expected, name).shape:
                raise ValueError(f"not a state of the drift monitor: the shape of {name}")
        return read


def bets(state: State, tolerance: Tolerance) -> Bets:
    """What to bet on the next images."""
    columns = layout(state.dim)
    channels = len(HALF_LIVES) * len(tolerance.regions)
    directions, offsets = np.zeros((columns.size, channels)), np.zeros(channels)
    for h in range(len(HALF_LIVES)):
        if state.weights[h] <= 0:
            continue
        mean = state.recent[h] / state.weights[h]
        noise = float(state.squares[h] / state.weights[h] ** 2)
        for g, region in enumerate(tolerance.regions):
            at = region.columns
            direction = _direction(mean[at], noise, region)
            least = np.minimum(direction * columns.low[at], direction * columns.high[at]).sum()
            offset = region.support(direction)
            scale = min(1.0, STAKE / max(offset - float(least), 1e-300))
            channel = h * len(tolerance.regions) + g
            directions[at, channel], offsets[channel] = scale * direction, scale * offset
    return Bets(directions, offsets)


def _direction(mean: Floats, noise: float, region: Region) -> Floats:
    """What ``mean`` lies beyond the tolerance, less what chance alone would put there (James–Stein, positive part)."""
    away = region.beyond(mean)
    squared = float(away @ away)
    return away * max(0.0, 1 - len(mean) * noise / squared) if squared > 0 else away


def tally(values: Floats, placed: Bets) -> Tally:
    """Features (n, K) of images that came after the bets were placed."""
    return Tally(
        n=len(values),
        sums=values.sum(axis=0),
        log_wealth=np.log1p(values @ placed.directions - placed.offsets).sum(axis=0),
    )


def absorb(state: State, seen: Tally, *, weight: float) -> State:
    """The state after a tally whose bets followed from this state or an earlier one.

    ``weight`` = w: what a change that begins with this tally is given to bet with, in the unit of the time between
    false alarms (images, days); the sum over tallies is the time.
    """
    keep = 2.0 ** (-seen.n / np.array(HALF_LIVES))
    evidence = np.minimum(state.log_evidence + seen.log_wealth, _MOST_LOG)
    started = np.maximum(state.log_detector, np.log(weight)) if weight > 0 else state.log_detector
    return State(
        dim=state.dim,
        n=state.n + seen.n,
        sums=state.sums + seen.sums,
        recent=keep[:, None] * state.recent + seen.sums,
        weights=keep * state.weights + seen.n,
        squares=keep**2 * state.squares + seen.n,
        log_detector=np.minimum(started + seen.log_wealth, _MOST_LOG),
        log_evidence=evidence,
        log_peak=max(state.log_peak, log_mean(evidence)),
    )


def advance(state: State, values: Floats, tolerance: Tolerance, *, weight: float) -> State:
    """The state after features (n, K), betting anew after every BLOCK of them; ``weight``: of all of them."""
    share = weight / max(len(values), 1)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        seen = tally(block, bets(state, tolerance))
        state = absorb(state, seen, weight=share * len(block))
    return state


def log_mean(logs: NDArray[np.float64]) -> float:
    """log of the mean of exp."""
    most = float(logs.max())
    return most if most == -np.inf else most + float(np.log(np.exp(logs - most).mean()))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
