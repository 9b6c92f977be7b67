"""p-values of images that hold for a real encoder: ranks among held-out images.

The theoretical p-value P(χ²_d ≥ ‖s‖²) holds where embeddings follow the prior exactly, which none do. Let q_1 … q_n be
‖s‖² of held-out images and q that of a new one, exchangeable with them. Then

    p = (1 + #{i : q_i ≥ q}) / (n + 1),    P(p ≤ α) ≤ α for every α and every n,

whatever the encoder is. At most 1000 of the q_i are kept: the largest one by one, the rest ever more thinly. A q
between two of them is counted as if all in between were at least as large, so p is only ever larger than with all of
them. Outside the support ‖s‖² is infinite; it is kept as 1e300, and compared as that.

Reference: Vovk, Gammerman & Shafer 2005; Bates et al. 2023, Testing for outliers with conformal p-values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nidim.priors.base import Floats

MOST_KEPT = 1000
INFINITE = 1e300
"""Stands for ∞, which JSON does not have."""
ONE_BY_ONE = 200
"""The largest that are all kept."""


class Conformal(BaseModel):
    """Which ‖s‖² held-out images had."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n: int = Field(ge=1, description="held-out images")
    at_least: tuple[int, ...] = Field(description="images whose ‖s‖² is at least the one kept; falling")
    squared: tuple[float, ...] = Field(description="‖s‖² that are kept; rising")

    @model_validator(mode="after")
    def _fits(self) -> Conformal:
        ranks, kept = np.array(self.at_least), np.array(self.squared)
        if ranks.shape != kept.shape or not len(kept):
            raise ValueError("as many counts as values, at least one")
        if (np.diff(kept) < 0).any() or (np.diff(ranks) >= 0).any() or ranks[0] > self.n or ranks[-1] < 1:
            raise ValueError("values must rise, counts must fall from at most n to at least 1")
        return self

    def p_value(self, squared: ArrayLike) -> Floats:
        """p of images with these ‖s‖², shape (n,); at least 1/(n+1). Raises ValueError for NaN."""
        q = np.minimum(np.asarray(squared, dtype=np.float64), INFINITE)
        if np.isnan(q).any():
            raise ValueError("‖s‖² must not be NaN")
        kept, counts = self._table
        below = np.searchsorted(kept, q, side="left")  # the largest one kept below q lies at below - 1
        return (1 + counts[below]) / (self.n + 1)

    @functools.cached_property
    def _table(self) -> tuple[Floats, Floats]:
        """What is kept, and how many may be at least a q that has 0, 1, … of it below."""
        above = np.array(self.at_least, dtype=np.float64) - 1
        return np.array(self.squared), np.concatenate([[float(self.n)], above])


def calibrated(report: Mapping[str, Any]) -> Conformal | None:
    """What the stored ``report`` of an encoder says of its held-out images; None where it is older than that figure.

    Raises ValueError for what this version does not understand.
    """
    section = report.get("calibration")
    found = section.get("conformal") if isinstance(section, dict) else None
    return None if found is None else Conformal.model_validate(found)


def conformal(squared: ArrayLike) -> Conformal:
    """What is kept of the ‖s‖² (n,) of held-out images. Raises ValueError for none, NaN, or another shape."""
    given = np.asarray(squared, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"expected ‖s‖² of shape (n,), got {given.shape}")
    ordered = np.sort(np.minimum(given, INFINITE))
    n = len(ordered)
    if n == 0 or np.isnan(ordered).any():
        raise ValueError("expected ‖s‖² of at least one held-out image, none of them NaN")
    counts = _counts(n)
    kept = ordered[n - counts]
    return Conformal(n=n, at_least=tuple(counts.tolist()), squared=tuple(kept.tolist()))


def _counts(n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ranks from the largest, falling: all up to ONE_BY_ONE, then in even steps of the logarithm up to n."""
    if n <= MOST_KEPT:
        return np.arange(n, 0, -1)
    far = np.geomspace(ONE_BY_ONE, n, MOST_KEPT - ONE_BY_ONE + 1).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, ONE_BY_ONE + 1), far]))[::-1]
