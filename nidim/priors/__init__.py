"""The known law of the embeddings: draw from it, score by it, move along it.

gaussian                        N(0, I): the latent itself
uniform                         U([0, 1]^d): the latent through Φ, or the paper's sigmoid
laplace, student_t, logistic,   independent coordinates of any such law: the latent through F⁻¹ ∘ Φ, the
beta, exponential,              probability integral transform; exact at every σ when the latent is N(0, I)
gaussian_mixture
sphere                          uniform on S^{d−1}: the latent over its length
flow                            the law of a sample: the latent through a flow that was fitted to it
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nidim.capacity import Resolved
from nidim.priors.base import Floats, IndependentPrior, Prior
from nidim.priors.flow import FlowPrior, fit_prior
from nidim.priors.gaussian import GaussianPrior
from nidim.priors.marginal import MarginalPrior
from nidim.priors.sphere import SpherePrior
from nidim.priors.uniform import Construction, UniformPrior
from nidim.spec import FullSpec, laws, targets

__all__ = [
    "Construction",
    "Floats",
    "FlowPrior",
    "GaussianPrior",
    "IndependentPrior",
    "MarginalPrior",
    "Prior",
    "SpherePrior",
    "UniformPrior",
    "construction_of",
    "fit_prior",
    "make_prior",
    "noisy_prior",
    "prior_from_dict",
]

_MARGINAL: TypeAdapter[laws.MarginalLaw] = TypeAdapter(laws.MarginalLaw)
_PLAIN: dict[str, Callable[..., Prior]] = {
    "gaussian": GaussianPrior,
    "uniform": UniformPrior,
    "sphere": SpherePrior,
}


def prior_from_dict(description: dict[str, Any], *, file: bytes | None = None) -> Prior:
    """The law that :meth:`Prior.describe` described; ``file``: that of a flow, which the description names.

    Raises ValueError for an unknown kind, for parameters that it does not take, without ``dim``, and for a flow without
    its file.
    """
    values = dict(description)
    kind, dim = values.pop("kind", None), values.pop("dim", None)
    if not isinstance(dim, int) or dim < 1:
        raise ValueError(f"dim must be a whole number from 1 on, got {dim!r}")
    if kind in _PLAIN:
        try:
            return _PLAIN[kind](dim, **values)
        except TypeError as error:
            raise ValueError(f"prior {kind}: {error}") from error
    if kind == "flow":
        return _read_flow(description, file)
    try:
        return MarginalPrior(dim, _MARGINAL.validate_python({"kind": kind, **values}))
    except ValidationError as error:
        raise ValueError(f"unknown prior kind {kind!r} or parameters of it: {error}") from error


def _read_flow(description: dict[str, Any], file: bytes | None) -> FlowPrior:
    if file is None:
        raise ValueError("a flow needs the file of its weights")
    prior = FlowPrior.read(file)
    if prior.describe() != description:
        raise ValueError(f"the file {prior.digest} is not that of the flow {description.get('file')}")
    return prior


def make_prior(spec: FullSpec) -> Prior:
    """The law that the clean embeddings of a filled ``spec`` are to follow; a flow is fitted, once a process.

    Raises ValueError for the spec of a stored encoder whose flow lies beside it.
    """
    if spec.prior.kind == "gaussian":
        return GaussianPrior(spec.encoder.dim)
    if spec.prior.kind == "uniform":
        return UniformPrior(spec.encoder.dim, construction=construction_of(spec))
    if spec.prior.kind == "sphere":
        return SpherePrior(spec.encoder.dim)
    if spec.prior.kind == "flow":
        return _fitted(spec.prior)
    return MarginalPrior(spec.encoder.dim, spec.prior)


@functools.lru_cache(maxsize=4)
def _fitted(law: targets.FlowPrior) -> FlowPrior:
    if isinstance(law.points, targets.StoredPoints):
        raise ValueError("the flow of a stored encoder lies beside it: read it from there")
    return fit_prior(law.points)


def construction_of(spec: FullSpec) -> Construction:
    """How a uniform law is made: by Φ of a Gaussian latent, or by the sigmoid alone."""
    return "sigmoid" if spec.normalization.kind == "sigmoid" else "gaussian_cdf"


def noisy_prior(prior: Prior, resolved: Resolved) -> Prior:
    """The law that is promised to the embedding *with noise*, in the scale in which noise is served, for that of f(X).

    N(0, (1+σ²)I) for the Gaussian; U([−ε, 1+ε]^d) for the sigmoid with uniform noise; any law that is a map of the
    Gaussian latent keeps its own, exact at every σ.
    """
    if isinstance(prior, GaussianPrior) and resolved.sigma is not None:
        return GaussianPrior(prior.dim, scale=math.sqrt(1 + resolved.sigma**2))
    if isinstance(prior, UniformPrior) and prior.construction == "sigmoid" and resolved.epsilon is not None:
        return dataclasses.replace(prior, low=-resolved.epsilon, high=1 + resolved.epsilon)
    return prior
