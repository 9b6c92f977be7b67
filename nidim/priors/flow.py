"""The law of a sample, by a flow that was fitted to it: an embedding is flow(latent), its normal scores the inverse.

A fitted flow is a file: safetensors with the weights (float32), the sample (``points``, float64 (n, d)) and JSON in its
header. The bytes *are* the law: :meth:`FlowPrior.describe` names them by their SHA-256, and whoever reads a description
brings the file. Evaluated in float64; torch and zuko are imported when that first happens.

Draws are made in blocks of 1,024 rows of their stream, whichever rows are asked for: a matrix product need not give the
same last digit for a row in another place.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.priors.base import Floats, Prior
from nidim.spec.targets import LEAST_POINTS
from nidim.streams import uniform53

if TYPE_CHECKING:
    from torch import Tensor

    from nidim.flow import Flow

BLOCK = 1024
POINTS = "points"
TABLE_ROWS, TABLE_SEED = 1 << 16, 0
"""Draws from which the quantiles of the coordinates are taken."""


FITTED, CHOSEN_ON = 0.7, 0.15
"""Shares of the sample: for the gradient, for the number of steps; the rest is held out."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """Row numbers of a sample: for the gradient, for the number of steps, held out."""

    fitted: NDArray[np.int64]
    chosen_on: NDArray[np.int64]
    heldout: NDArray[np.int64]


def parts_of(n: int) -> Parts:
    """A fixed split of a sample of n points."""
    rows = np.random.default_rng(0).permutation(n)
    first, second = int(FITTED * n), int((FITTED + CHOSEN_ON) * n)
    return Parts(rows[:first], rows[first:second], rows[second:])


@dataclasses.dataclass(frozen=True)
class FlowPrior(Prior):
    """``data``: the bytes of the file. Made by :func:`fit_prior`, or from a file by :meth:`read`."""

    data: bytes = dataclasses.field(repr=False)
    kind = "flow"
    through_normal = True
    scores_by = "back through the flow"

    @classmethod
    def read(cls, data: bytes) -> FlowPrior:
        """The law in a file. Raises ValueError for anything else."""
        prior = cls(_dim_of(data), data)
        prior.flow  # noqa: B018 - a file that does not hold together is refused here
        return prior

    @property
    def name(self) -> str:
        return f"the law of {len(self.points):,} given points, by a flow"

    @property
    def digest(self) -> str:
        """``sha256:`` and that of the file."""
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def log_prob(self, x: ArrayLike) -> Floats:
        values = self.rows(x)
        return self._in_blocks(lambda rows: self.flow.log_prob(rows), values, np.empty(len(values)))

    def normal_scores(self, x: ArrayLike) -> Floats:
        values = np.asarray(x, dtype=np.float64)
        return self._in_blocks(lambda rows: self.flow.inverse(rows)[0], values, np.empty_like(values))

    def from_normal_scores(self, s: ArrayLike) -> Floats:
        values = np.asarray(s, dtype=np.float64)
        return self._in_blocks(lambda rows: self.flow(rows), values, np.empty_like(values))

    def _page(self, n: int, *, seed: int, offset: int, temperature: float) -> NDArray[np.float32]:
        out = np.empty((n, self.dim), dtype=np.float32)
        for start in range(offset - offset % BLOCK, offset + n, BLOCK):
            uniform = uniform53(seed, rows=(start, start + BLOCK), d=self.dim)
            rows = self.from_normal_scores(temperature * special.ndtri(uniform))
            low, high = max(start, offset), min(start + BLOCK, offset + n)
            out[low - offset : high - offset] = rows[low - start : high - start]
        return out

    def quantiles(self, levels: ArrayLike) -> Floats:
        return np.quantile(self._table, np.asarray(levels, dtype=np.float64), axis=0)

    def pooled_quantiles(self, levels: ArrayLike) -> Floats:
        return np.quantile(self._table, np.asarray(levels, dtype=np.float64))

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim, "file": self.digest}

    @functools.cached_property
    def flow(self) -> Flow:
        """In float64, not to be trained."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        from nidim.flow import empty

        flow = empty(self.dim)
        try:
            tensors = load(self.data)
            tensors.pop(POINTS)
            flow.load_state_dict(tensors)
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise ValueError(f"the file does not hold a flow: {str(error)[:300]}") from error
        return flow.double().eval()

    @functools.cached_property
    def points(self) -> Floats:
        """The sample that the flow was fitted to, (n, d)."""
        from safetensors.numpy import load

        return load(self.data)[POINTS]

    @property
    def steps(self) -> int:
        """Of the fit."""
        return int(_header(self.data)["steps"])

    @functools.cached_property
    def _table(self) -> NDArray[np.float32]:
        return self.sample(TABLE_ROWS, seed=TABLE_SEED)

    def _in_blocks(self, function: Callable[[Tensor], Tensor], values: Floats, out: Floats) -> Floats:
        import torch

        with torch.no_grad():
            for start in range(0, len(values), BLOCK):
                rows = torch.from_numpy(np.ascontiguousarray(values[start : start + BLOCK]))
                out[start : start + BLOCK] = function(rows).numpy()
        return out


def fit_prior(points: ArrayLike) -> FlowPrior:
    """The law of a sample (n, d); seconds for some thousand points, the same bytes for the same sample.

    Raises ValueError for another shape, d below 2, fewer than ``LEAST_POINTS``, and numbers that are not finite.
    """
    import torch
    from safetensors.torch import save

    from nidim.flow import fit

    sample = np.ascontiguousarray(points, dtype=np.float64)
    if sample.ndim != 2 or sample.shape[1] < 2 or len(sample) < LEAST_POINTS:
        raise ValueError(
            f"a flow needs points (n, d), d ≥ 2 and n ≥ {LEAST_POINTS}, got shape {sample.shape}"
        )
    if not np.isfinite(sample).all():
        raise ValueError("a flow needs points of finite numbers")
    parts = parts_of(len(sample))
    flow, steps = fit(sample[parts.fitted], sample[parts.chosen_on])
    tensors = {POINTS: torch.from_numpy(sample), **flow.state_dict()}
    header = {"nidim": json.dumps({"dim": sample.shape[1], "steps": steps})}
    return FlowPrior(sample.shape[1], save(tensors, metadata=header))


def _dim_of(data: bytes) -> int:
    return int(_header(data)["dim"])


def _header(data: bytes) -> dict[str, Any]:
    """What the file says of itself: eight bytes of length, then JSON, by the format of safetensors."""
    try:
        length = int.from_bytes(data[:8], "little")
        found: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["nidim"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("the file does not hold a flow") from error
    return found
