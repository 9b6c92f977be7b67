"""The known law of the embeddings: draw from it, score by it, move along it.

gaussian                        N(0, I): the latent itself
uniform                         U([0, 1]^d): the latent through Φ, or the paper's sigmoid
laplace, student_t, logistic,   independent coordinates of any such law: the latent through F⁻¹ ∘ Φ, the
beta, exponential,              probability integral transform; exact at every σ when the latent is N(0, I)
gaussian_mixture
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nidim.capacity import Resolved
from nidim.priors.base import Floats, Prior
from nidim.priors.gaussian import GaussianPrior
from nidim.priors.marginal import MarginalPrior
from nidim.priors.uniform import Construction, UniformPrior
from nidim.spec import FullSpec, laws

__all__ = [
    "Construction",
    "Floats",
    "GaussianPrior",
    "MarginalPrior",
    "Prior",
    "UniformPrior",
    "construction_of",
    "make_prior",
    "noisy_prior",
    "prior_from_dict",
]

_MARGINAL: TypeAdapter[laws.MarginalLaw] = TypeAdapter(laws.MarginalLaw)


def prior_from_dict(description: dict[str, Any]) -> Prior:
    """The law that :meth:`Prior.describe` described. Raises ValueError for an unknown kind."""
    values = dict(description)
    kind, dim = values.pop("kind", None), values.pop("dim")
    if kind == "gaussian":
        return GaussianPrior(dim, **values)
    if kind == "uniform":
        return UniformPrior(dim, **values)
    try:
        return MarginalPrior(dim, _MARGINAL.validate_python({"kind": kind, **values}))
    except ValidationError as error:
        raise ValueError(f"unknown prior kind {kind!r} or parameters of it: {error}") from error


def make_prior(spec: FullSpec) -> Prior:
    """The law that the clean embeddings of a filled ``spec`` are to follow."""
    if spec.prior.kind == "gaussian":
        return GaussianPrior(spec.encoder.dim)
    if spec.prior.kind == "uniform":
        return UniformPrior(spec.encoder.dim, construction=construction_of(spec))
    return MarginalPrior(spec.encoder.dim, spec.prior)


def construction_of(spec: FullSpec) -> Construction:
    """How a uniform law is made: by Φ of a Gaussian latent, or by the sigmoid alone."""
    return "sigmoid" if spec.normalization.kind == "sigmoid" else "gaussian_cdf"


def noisy_prior(spec: FullSpec, resolved: Resolved) -> Prior:
    """The law that is promised to the embedding *with noise*, in the scale in which noise is served.

    N(0, (1+σ²)I) for the Gaussian; U([−ε, 1+ε]^d) for the sigmoid with uniform noise; any law that is a map of the
    Gaussian latent keeps its own, exact at every σ.
    """
    prior = make_prior(spec)
    if isinstance(prior, GaussianPrior) and resolved.sigma is not None:
        return GaussianPrior(prior.dim, scale=math.sqrt(1 + resolved.sigma**2))
    if isinstance(prior, UniformPrior) and prior.construction == "sigmoid" and resolved.epsilon is not None:
        return dataclasses.replace(prior, low=-resolved.epsilon, high=1 + resolved.epsilon)
    return prior
