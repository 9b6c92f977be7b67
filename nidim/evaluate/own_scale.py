"""The match in the law's own scale: what normal scores cannot show.

Tests on normal scores are blind to how a law stretches its tails: a monotone map changes no score. Here the values
themselves are compared: Wasserstein-1 per coordinate, the outermost quantiles, and the log-density that the law gives
to held-out embeddings. A coordinate's law is known for every prior, or taken from many draws.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from nidim.evaluate.draws import generator
from nidim.evaluate.report import Distance, OwnScale
from nidim.priors import Prior

Floats = NDArray[np.float64]

EXTREME = 0.001
"""The lower of the outermost quantiles; the upper one is 1 − .001."""
_DEFINITIONS = {
    "w1": "Wasserstein-1 per coordinate, mean over the coordinates, the law's own scale",
    "quantile_low": "0.1 % quantile of all coordinates together: error over the law's distance from its median",
    "quantile_high": "99.9 % quantile of all coordinates together: error over the law's distance from its median",
}


def own_scale(x: Floats, prior: Prior, *, sets: int, values: int = 1 << 20) -> OwnScale:
    """Compare embeddings ``x`` (n, d) with ``prior`` and with ``sets`` sets of as many true draws.

    Of more than ``values`` values the first rows alone are used, because quantiles of some laws are slow.
    """
    x = x[: max(1, values // prior.dim)]
    found, floors = _measure(x, prior), _floor(len(x), prior, sets)
    distances = {
        name: Distance(
            value=found[name],
            floor=mean,
            floor_sd=sd,
            ratio=found[name] / max(mean, np.finfo(np.float64).tiny),
            n=len(x),
            definition=_DEFINITIONS[name],
        )
        for name, (mean, sd) in floors.items()
        if name != "log_score"
    }
    score = found["log_score"]
    return OwnScale(
        **distances,
        log_score_nats=score if np.isfinite(score) else None,
        log_score_law_nats=floors["log_score"][0],
    )


def _measure(x: Floats, prior: Prior) -> dict[str, float]:
    n, d = x.shape
    levels = (np.arange(n) + 0.5) / n
    w1 = float(np.abs(np.sort(x, axis=0) - prior.quantiles(levels)).mean())
    ends = (EXTREME, 1 - EXTREME)
    median, *wanted = prior.pooled_quantiles([0.5, *ends])
    errors = [abs(float(np.quantile(x, p)) - w) / abs(w - median) for p, w in zip(ends, wanted, strict=True)]
    score = float(prior.log_prob(x).mean()) / d
    return {"w1": w1, "quantile_low": errors[0], "quantile_high": errors[1], "log_score": score}


@functools.lru_cache(maxsize=64)
def _floor(n: int, prior: Prior, sets: int) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of everything over sets of ``n`` true draws."""
    rng = generator(0, f"own scale {n} {prior.dim}")
    found = [
        _measure(prior.from_normal_scores(rng.standard_normal((n, prior.dim))), prior) for _ in range(sets)
    ]
    values = {name: np.array([one[name] for one in found]) for name in found[0]}
    return {name: (float(v.mean()), float(v.std(ddof=1))) for name, v in values.items()}
