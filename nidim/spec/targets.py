"""A law given by a sample of it: the kind ``flow`` of the field ``prior`` of a spec."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from nidim.spec.base import Part

LEAST_POINTS, LEAST_PER_DIM = 100, 10
"""Points that a sample needs, at all and a dimension."""
MOST_DIM, MOST_VALUES = 64, 100_000
SINGULAR = 1e-6
"""Smallest eigenvalue of the correlations from which a sample fills its space."""

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Point = Annotated[tuple[Coordinate, ...], Field(min_length=2, max_length=MOST_DIM, fail_fast=True)]
Points = Annotated[
    tuple[Point, ...], Field(min_length=LEAST_POINTS, max_length=MOST_VALUES // 2, fail_fast=True)
]


class StoredPoints(Part):
    """Stands for the points in the spec of a stored encoder, whose file prior.safetensors has them."""

    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] = Field(
        description="SHA-256 over the line `n d` and the float64 values, row by row, little-endian"
    )
    n: int = Field(ge=LEAST_POINTS, le=MOST_VALUES // 2, description="points")
    dim: int = Field(ge=2, le=MOST_DIM, description="d of each")


def _form(value: Any) -> str:
    return "stored" if isinstance(value, dict | StoredPoints) else "given"


class FlowPrior(Part):
    """The law of given points, by an invertible flow that is fitted to them before the training.

    The embedding is the flow of a Gaussian latent. Its density is positive everywhere and it is in one piece: between
    clusters that are far apart it leaves a thin bridge. The report says how well it fits points that it never saw.
    """

    kind: Literal["flow"] = "flow"
    points: Annotated[
        Annotated[Points, Tag("given")] | Annotated[StoredPoints, Tag("stored")], Discriminator(_form)
    ] = Field(
        description=f"n points of d numbers each, d = encoder.dim from 2 to {MOST_DIM}, n from {LEAST_POINTS} and "
        f"{LEAST_PER_DIM} d, n · d up to {MOST_VALUES:,}; in the spec of a stored encoder their digest, n and dim"
    )

    @model_validator(mode="after")
    def _can_be_fitted(self) -> Self:
        if not isinstance(self.points, StoredPoints):
            _check(self.points)
        return self

    @property
    def dim(self) -> int:
        """d."""
        return self.points.dim if isinstance(self.points, StoredPoints) else len(self.points[0])

    def stored(self) -> FlowPrior:
        """The same law with the digest of its points instead of them."""
        if isinstance(self.points, StoredPoints):
            return self
        import numpy as np

        values = np.asarray(self.points, dtype="<f8")
        text = f"{len(values)} {values.shape[1]}\n".encode()
        digest = "sha256:" + hashlib.sha256(text + values.tobytes()).hexdigest()
        return FlowPrior(points=StoredPoints(digest=digest, n=len(values), dim=values.shape[1]))


def _check(points: tuple[tuple[float, ...], ...]) -> None:
    """Raises ValueError for points from which no density can be learnt."""
    import numpy as np

    n, d = len(points), len(points[0])
    odd = next((i for i, point in enumerate(points) if len(point) != d), None)
    if odd is not None:
        raise ValueError(f"point {odd} has {len(points[odd])} coordinates, point 0 has {d}")
    if n * d > MOST_VALUES:
        raise ValueError(
            f"{n} points of {d} coordinates are {n * d} values; {MOST_VALUES} are the most: take fewer"
        )
    if n < LEAST_PER_DIM * d:
        raise ValueError(f"{n} points are too few for {d} dimensions; give at least {LEAST_PER_DIM * d}")
    values = np.asarray(points)
    if (flat := np.flatnonzero(np.ptp(values, axis=0) == 0)).size:
        raise ValueError(f"coordinate {flat[0]} is the same in every point: such a law has no density")
    if np.linalg.eigvalsh(np.corrcoef(values, rowvar=False))[0] < SINGULAR:
        raise ValueError("the points lie on a plane of fewer dimensions: such a law has no density")
