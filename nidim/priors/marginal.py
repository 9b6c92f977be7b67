"""Independent coordinates of any continuous law: x = F⁻¹(Φ(s)), the probability integral transform.

log p(x) = Σ log f(x_i); s = Φ⁻¹(F(x)), taken through log F or log(1 − F), whichever is smaller, so that neither tail
loses digits. The laws of SciPy are SciPy's, but for tails whose probability no double holds; the Gaussian mixture,
which has no inverse in closed form, is ours.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nidim.priors.base import Floats, IndependentPrior
from nidim.spec import laws

SCIPY_NAMES = {"student_t": "t", "exponential": "expon"}
"""Where scipy.stats has another name than we."""
_ROUNDS = 80
_NEAR = 1e-10
"""The last step of Newton's method, relative: the error after it is about its square, far below a double's rounding."""
_LOG_2PI, _LOG_2 = np.log(2 * np.pi), np.log(2)
_FAR = 30.0
"""A score whose tail probability, 5e-198, still has all its digits in a double; at 38.6 none is left."""
_LOST, _SMALL = 19.0, 12.0
"""Scores beyond which SciPy may find no quantile of a beta or t law; of a beta law, shapes up to which."""
_FAINT = -500.0
"""A logarithm of a tail's probability that a double still holds with all digits."""


class Law(Protocol):
    """A continuous law on the line."""

    def logpdf(self, x: Floats, /) -> Floats: ...
    def logcdf(self, x: Floats, /) -> Floats: ...
    def logsf(self, x: Floats, /) -> Floats: ...
    def at_score(self, s: Floats, /) -> Floats:
        """x with F(x) = Φ(s)."""


@dataclasses.dataclass(frozen=True)
class MarginalPrior(IndependentPrior):
    """d independent coordinates of ``law``."""

    law: laws.MarginalLaw
    through_normal = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.law.kind

    @property
    def name(self) -> str:
        return f"{self.law.title} in every coordinate".replace("-", "−")

    def log_prob(self, x: ArrayLike) -> Floats:
        return self._law.logpdf(self.rows(x)).sum(axis=1)

    def cdf(self, x: ArrayLike) -> Floats:
        return np.exp(self._law.logcdf(np.asarray(x, dtype=np.float64)))

    def normal_scores(self, x: ArrayLike) -> Floats:
        return scores(self._law, np.asarray(x, dtype=np.float64))

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        return self._law.at_score(np.asarray(s, dtype=np.float64))

    def slope(self, s: ArrayLike) -> Floats:
        """dx/ds at the normal scores ``s``, any shape."""
        values = np.asarray(s, dtype=np.float64)
        return np.exp(_log_normal(values) - self._law.logpdf(self.from_normal_scores(values)))

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim, **self.law.model_dump(mode="json", exclude={"kind"})}

    @functools.cached_property
    def _law(self) -> Law:
        if isinstance(self.law, laws.GaussianMixturePrior):
            return Mixture(self.law)
        return OURS.get(self.law.kind, FromSciPy)(self.law)


def scores(law: Law, x: Floats) -> Floats:
    """s with Φ(s) = F(x); ±∞ outside the support."""
    below, above = law.logcdf(x), law.logsf(x)
    return np.where(below < above, special.ndtri_exp(below), -special.ndtri_exp(above))


class FromSciPy:
    """A law of scipy.stats, which is imported when it is first needed: it takes its time and memory."""

    def __init__(self, law: laws.SciPyLaw) -> None:
        from scipy import stats

        self._shape: dict[str, float] = law.model_dump(exclude={"kind", "loc", "scale"})
        family = getattr(stats, SCIPY_NAMES.get(law.kind, law.kind))
        self._law = family(**self._shape, loc=law.loc, scale=law.scale)
        self._loc, self._scale = law.loc, law.scale
        self.logpdf, self.logcdf, self.logsf = self._law.logpdf, self._law.logcdf, self._law.logsf

    def at_score(self, s: Floats, /) -> Floats:
        """By the quantile of the nearer tail."""
        tail, below = special.ndtr(-np.abs(s)), s < 0
        near = np.where(
            below,
            self._law.ppf(np.where(below, tail, 0.5)),  # of a tail that is not asked for SciPy may find none
            self._law.isf(np.where(below, 0.5, tail)),
        )
        far = self._far(s)
        return near if far is None else np.where(np.abs(s) > _FAR, self._loc + self._scale * far, near)

    def _far(self, s: Floats, /) -> Floats | None:  # noqa: ARG002
        """x of the standard law far out, by the logarithm of the tail; None where SciPy's quantile is good enough."""
        return None


class Exponential(FromSciPy):
    """log(1 − F) = −x."""

    def _far(self, s: Floats, /) -> Floats:
        return np.where(s > 0, -special.log_ndtr(-s), special.ndtr(s))


class Logistic(FromSciPy):
    """log(1 − F) → −x."""

    def _far(self, s: Floats, /) -> Floats:
        return -np.sign(s) * special.log_ndtr(-np.abs(s))


class Laplace(FromSciPy):
    """log(1 − F) = −x − log 2 for x > 0. SciPy takes the logarithm of a density that a double rounds to 0 at 745."""

    def __init__(self, law: laws.SciPyLaw) -> None:
        super().__init__(law)
        self.logpdf, self.logcdf, self.logsf = self._logpdf, self._logcdf, self._logsf

    def _far(self, s: Floats, /) -> Floats:
        return -np.sign(s) * (special.log_ndtr(-np.abs(s)) + _LOG_2)

    def _logpdf(self, x: Floats, /) -> Floats:
        return -np.abs(self._standardised(x)) - np.log(2 * self._scale)

    def _logcdf(self, x: Floats, /) -> Floats:
        return self._log_below(self._standardised(x))

    def _logsf(self, x: Floats, /) -> Floats:
        return self._log_below(-self._standardised(x))

    def _log_below(self, z: Floats) -> Floats:
        return np.where(z < 0, z - _LOG_2, np.log1p(-0.5 * np.exp(-np.abs(z))))

    def _standardised(self, x: Floats) -> Floats:
        return (np.asarray(x, dtype=np.float64) - self._loc) / self._scale


class StudentT(FromSciPy):
    """1 − F(z) = ½ w^a √(1 − w) S / (a B(a, ½)), S = ₂F₁(a + ½, 1; a + 1; w), w = ν/(ν + z²), a = ν/2, for z > 0.

    SciPy takes the logarithm of a probability that a double rounds to 0, and far out its search for a quantile ends at
    an infinity of either sign. Over t = log z the logarithm of the tail is concave and falls by ν/S: Newton's method,
    from the score itself, than which z is never smaller. Reference: DLMF 8.17.8.
    """

    def __init__(self, law: laws.SciPyLaw) -> None:
        super().__init__(law)
        self.logcdf, self.logsf = self._logcdf, self._logsf

    def at_score(self, s: Floats, /) -> Floats:
        lost = np.isfinite(s) & (np.abs(s) > _LOST)
        x = np.array(super().at_score(np.where(lost, 0.0, s)))
        x[lost] = self._loc + self._scale * np.sign(s[lost]) * self._quantile(np.abs(s[lost]))
        return x

    def _quantile(self, s: Floats) -> Floats:
        """z > 0 with F(z) = Φ(s)."""
        df, log_tail = self._shape["df"], special.log_ndtr(-s)
        t = np.log(s)
        for _ in range(_ROUNDS):
            found, series = self._tail(t)
            step = (found - log_tail) * series / df
            t = t + step
            if (np.abs(step) <= _NEAR).all():
                break
        with np.errstate(over="ignore"):
            return np.exp(t)

    def _tail(self, t: Floats) -> tuple[Floats, Floats]:
        """log(1 − F(e^t)), and S."""
        df = self._shape["df"]
        log_w = -np.logaddexp(0.0, 2 * t - np.log(df))
        w = np.exp(log_w)
        series = special.hyp2f1((df + 1) / 2, 1.0, df / 2 + 1, w)
        return df / 2 * log_w + np.log1p(-w) / 2 + np.log(series / df) - special.betaln(df / 2, 0.5), series

    def _logcdf(self, x: Floats, /) -> Floats:
        return self._log_below((np.asarray(x, dtype=np.float64) - self._loc) / self._scale)

    def _logsf(self, x: Floats, /) -> Floats:
        return self._log_below((self._loc - np.asarray(x, dtype=np.float64)) / self._scale)

    def _log_below(self, z: Floats) -> Floats:
        found = np.array(self._standard.logcdf(z))
        faint = np.isfinite(z) & (found < _FAINT)
        found[faint], _ = self._tail(np.log(-z[faint]))
        return found

    @functools.cached_property
    def _standard(self) -> Any:
        from scipy import stats

        return stats.t(self._shape["df"])


class Beta(FromSciPy):
    """F(x) = x^a / (a B(a, b)) · (1 − a (b − 1)/(a + 1) x + …), and the same from the other end with a and b exchanged.

    Far out, for small shapes, SciPy's search for a quantile ends nowhere: there the two terms are as good as exact.
    """

    def at_score(self, s: Floats, /) -> Floats:
        a, b = self._shape["a"], self._shape["b"]
        own, other = np.where(s < 0, a, b), np.where(s < 0, b, a)
        lost = (np.abs(s) > _LOST) & (own <= _SMALL)
        log_tail = special.log_ndtr(-np.abs(np.where(lost, s, 0.0)))
        first = np.exp((log_tail + np.log(own) + special.betaln(own, other)) / own)
        z = first * (1 + (other - 1) / (own + 1) * first)
        x = self._loc + self._scale * np.where(s < 0, z, 1 - z)
        return np.where(lost, x, super().at_score(np.where(lost, 0.0, s)))


OURS = {
    "exponential": Exponential,
    "logistic": Logistic,
    "laplace": Laplace,
    "beta": Beta,
    "student_t": StudentT,
}
"""Kinds whose tails reach farther than SciPy's quantiles."""


class Mixture:
    """Σ w_k N(m_k, s_k²)."""

    def __init__(self, law: laws.GaussianMixturePrior) -> None:
        weights = np.array([component.weight for component in law.components])
        self._weights = weights / weights.sum()
        self._means = np.array([component.mean for component in law.components])
        self._scales = np.array([component.scale for component in law.components])

    def logpdf(self, x: Floats, /) -> Floats:
        z = self._standardised(x)
        return special.logsumexp(_log_normal(z) - np.log(self._scales), b=self._weights, axis=-1)

    def logcdf(self, x: Floats, /) -> Floats:
        return special.logsumexp(special.log_ndtr(self._standardised(x)), b=self._weights, axis=-1)

    def logsf(self, x: Floats, /) -> Floats:
        return special.logsumexp(special.log_ndtr(-self._standardised(x)), b=self._weights, axis=-1)

    def at_score(self, s: Floats, /) -> Floats:
        """Newton's method on Φ⁻¹(F(x)) = s, kept by bisection between the quantiles of the components."""
        flat = np.asarray(s, dtype=np.float64).ravel()
        quantiles = self._means + self._scales * flat[:, None]
        low, high = quantiles.min(1), quantiles.max(1)
        x = np.clip(self._rough(flat), low, high)
        open_ = np.flatnonzero(np.isfinite(flat))
        for _ in range(_ROUNDS):
            if not len(open_):
                break
            at, wanted = x[open_], flat[open_]
            found = scores(self, at)
            low[open_] = np.where(found < wanted, at, low[open_])
            high[open_] = np.where(found < wanted, high[open_], at)
            slope = np.exp(self.logpdf(at) - _log_normal(found))
            step = np.divide(wanted - found, slope, out=np.full_like(at, np.inf), where=slope > 0)
            inside = (at + step >= low[open_]) & (at + step <= high[open_])
            x[open_] = np.where(inside, at + step, (low[open_] + high[open_]) / 2)
            settled = np.abs(x[open_] - at) <= np.where(inside, _NEAR, 4e-16) * (
                np.abs(at) + self._scales.min()
            )
            open_ = open_[~settled]
        return np.where(np.isfinite(flat), x, flat).reshape(np.shape(s))

    def _rough(self, s: Floats) -> Floats:
        """A first guess, from a table of scores over a grid."""
        known, grid = self._table
        return np.interp(s, known, grid)

    @functools.cached_property
    def _table(self) -> tuple[Floats, Floats]:
        steps = np.linspace(-8.5, 8.5, 513)
        grid = np.unique(self._means[:, None] + self._scales[:, None] * steps)
        return np.maximum.accumulate(scores(self, grid)), grid

    def _standardised(self, x: Floats) -> Floats:
        return (np.asarray(x)[..., None] - self._means) / self._scales


def _log_normal(z: Floats) -> Floats:
    return -0.5 * np.square(z) - 0.5 * _LOG_2PI
