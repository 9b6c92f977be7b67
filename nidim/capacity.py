"""What a spec means before it is trained: σ "auto", sizes, the capacity of its channel, warnings of physics. No torch.

Adding independent noise Z to a constrained embedding f(X) bounds the information that survives by the capacity of the
channel (:mod:`nidim.spec.channel`). Equality holds only when the noisy embedding has the maximum-entropy law, which is
why maximising the information matches the law (arXiv 2410.06993).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from nidim.errors import SpecError
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.spec.base import Part
from nidim.spec.channel import (
    LEAST_HELDOUT,
    MOST_HELDOUT,
    SLACK_PER_DIM,
    ceiling,
    certifiable,
    epsilon_for,
    gaussian_capacity,
    sigma_for,
    uniform_capacity,
)
from nidim.spec.matching import Noise
from nidim.spec.targets import StoredPoints

SIGMA_RANGE = (0.05, 0.75)
"""σ "auto" stays within; below, the loss saturates before the law is filled, above, little is left."""
LOUDEST_SIGMA, LOUDEST_EPSILON = 1.0, 0.5
"""No advice asks for more: beyond σ the noise, beyond ε the corners of the cube, make the law, not the images."""
FILL = 0.8
"""σ "auto" aims at this fraction of log n, the ceiling of what n candidates can show."""


def capacity_nats(noise: Noise, dim: int, sigma: float | None = None) -> float | None:
    """C of the channel in nats; None without noise. ``sigma``: what "auto" became."""
    if noise.kind == "uniform":
        return uniform_capacity(dim, noise.epsilon)
    if noise.kind == "gaussian":
        value = sigma if sigma is not None else noise.sigma
        if isinstance(value, str):
            raise ValueError('sigma "auto" has no capacity before it is resolved: pass sigma=')
        return gaussian_capacity(dim, value)
    return None


def auto_sigma(dim: int, n_heldout: int, batch_size: int) -> tuple[float, bool]:
    """σ with C(d, σ) = .8 · log(min(n_heldout, batch_size)), and whether it had to be clipped."""
    n = max(2, min(n_heldout, batch_size))
    wanted = sigma_for(dim, FILL * math.log(n))
    low, high = SIGMA_RANGE
    return min(max(wanted, low), high), not low <= wanted <= high


class Advice(Part):
    """Advice that does not stop a job."""

    code: Literal["certificate_out_of_reach", "sigma_clipped", "batch_clipped", "images_shrunk"]
    detail: str


class Resolved(Part):
    """What "auto" became. The first part is known at submit time, the second when training starts."""

    image_size: int = Field(ge=1)
    channels: Literal[1, 3]
    dim: int = Field(ge=1)
    n_train: int
    n_heldout: int = Field(description="held-out images, the candidates of the certificate")
    batch_size: int = Field(description="effective: never above the training images")
    steps_per_epoch: int
    sigma: float | None = None
    epsilon: float | None = None
    capacity_nats: float | None = None

    device: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    channels_last: bool | None = None
    threads: int | None = None

    learned_sigmas: tuple[float, ...] | None = Field(
        None,
        description="σ of each coordinate that a training with learned noise ended with: a record, the served noise is "
        "that of sigma",
    )

    def facts(self, name: str) -> DatasetFacts:
        """The images of dataset ``name`` as a training sees them."""
        return DatasetFacts(
            name=name,
            n_train=self.n_train,
            n_test=self.n_heldout,
            height=self.image_size,
            width=self.image_size,
            channels=self.channels,
        )


def resolve(spec: FullSpec, facts: DatasetFacts) -> tuple[Resolved, list[Advice]]:
    """What a filled ``spec`` means for this dataset, with the physics' warnings.

    Raises SpecError for a dataset of fewer than two training images: nothing can be told apart in it; and for a flow
    whose points are elsewhere.
    """
    if spec.prior.kind == "flow" and isinstance(spec.prior.points, StoredPoints):
        raise SpecError(
            "This is the spec of a stored encoder: to train again, give the points of its prior.",
            pointer="/prior/points",
        )
    if facts.n_train < 2:
        raise SpecError(
            f"{facts.name} has too few training images, {facts.n_train}; at least 2 are needed.",
            pointer="/dataset",
        )
    warnings: list[Advice] = []
    dim = spec.encoder.dim
    batch = min(spec.batch_size, facts.n_train)
    sigma = epsilon = None
    if spec.noise.kind == "gaussian":
        sigma, note = _resolve_sigma(spec.noise.sigma, dim, facts.n_test, batch)
        warnings += note
    elif spec.noise.kind == "uniform":
        epsilon = spec.noise.epsilon
    capacity = capacity_nats(spec.noise, dim, sigma)
    if batch < spec.batch_size:
        warnings.append(
            Advice(code="batch_clipped", detail=f"batch_size {spec.batch_size} is over the {batch} images")
        )
    warnings += out_of_reach(spec.noise.kind, dim, capacity, facts.n_test)
    return (
        Resolved(
            image_size=spec.image_size,
            channels=facts.channels,
            dim=dim,
            n_train=facts.n_train,
            n_heldout=facts.n_test,
            batch_size=batch,
            steps_per_epoch=max(1, facts.n_train // max(batch, 1)),
            sigma=sigma,
            epsilon=epsilon,
            capacity_nats=capacity,
        ),
        warnings,
    )


def _resolve_sigma(sigma: float | str, dim: int, n_heldout: int, batch: int) -> tuple[float, list[Advice]]:
    if not isinstance(sigma, str):
        return sigma, []
    value, clipped = auto_sigma(dim, n_heldout, batch)
    if not clipped:
        return value, []
    detail = (
        f"sigma auto is kept at {value:.3g}: filling .8·log({max(2, min(n_heldout, batch))}) nats of capacity "
        f"at d={dim} asks for a value outside {SIGMA_RANGE}"
    )
    return value, [Advice(code="sigma_clipped", detail=detail)]


def shrunk(given: TrainSpec, full: FullSpec, facts: DatasetFacts) -> list[Advice]:
    """A warning when ``full``, made from ``given``, has images of ``facts`` shrunk and nobody asked for it."""
    side = min(facts.height, facts.width)
    if given.image_size is not None or side <= full.image_size:
        return []
    detail = (
        f"The images' shorter side is {side} pixels; the encoder sees {full.image_size}, the most that is chosen by "
        "default. Give image_size to keep more, for a longer training."
    )
    return [Advice(code="images_shrunk", detail=detail)]


def out_of_reach(kind: str, dim: int, capacity: float | None, n_heldout: int) -> list[Advice]:
    """A warning when n held-out images cannot show that the law is filled: (C − log n)/d > .25."""
    if capacity is None:
        return []
    if n_heldout < LEAST_HELDOUT:
        few = f"A certificate needs at least {LEAST_HELDOUT} held-out images; there are {n_heldout}."
        return [Advice(code="certificate_out_of_reach", detail=few)]
    enough = certifiable(dim, n_heldout)
    if capacity <= enough:
        return []
    name, least, most = (
        ("sigma", sigma_for(dim, enough), LOUDEST_SIGMA)
        if kind == "gaussian"
        else ("epsilon", epsilon_for(dim, enough), LOUDEST_EPSILON)
    )
    least = math.ceil(1000 * least) / 1000
    fits = f"Use {name} at least {least:.3f}."
    if least > most:
        fits = (
            f"Hold out more images or use fewer dimensions: {name} would have to be {least:.3f}, and hardly anything "
            "but the noise would be certified."
        )
    detail = (
        f"The channel can carry {capacity:.1f} nats, but {min(n_heldout, MOST_HELDOUT)} held-out images show at most "
        f"{ceiling(n_heldout):.1f}: no certificate within {SLACK_PER_DIM} nats a dimension is possible. {fits}"
    )
    return [Advice(code="certificate_out_of_reach", detail=detail)]
