"""What a state says to people: how far each group is from the prior and beyond the tolerance, and where most."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nidim.drift.features import Floats
from nidim.drift.state import State
from nidim.drift.tolerance import Region, Tolerance

RECENT = 1
"""The half-life that "recent" means: 2,000 images."""


class Shift(BaseModel):
    """One group of features, means of the recent images, in deviations under the prior."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_prior: float = Field(description="distance of the means from those of the prior")
    heldout: float = Field(description="the same of held-out images; 0 where no tolerance is known")
    beyond: float = Field(description="distance from what is tolerated; 0: within")
    chance: float = Field(description="what as many images of the prior itself would show, root mean square")


class Worst(BaseModel):
    """The coordinate that is farthest from where held-out images were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinate: int
    statistic: Literal["location", "scale"]
    value: float = Field(
        description="mean of the recent images, in deviations under the prior; the prior has 0"
    )
    heldout: float = Field(description="mean of held-out images; 0 where no tolerance is known")
    z: float = Field(description="distance from the nearest mean between the two, in its standard errors")


class Summary(BaseModel):
    """Of the recent images: those of the last 2,000 count half of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recent_images: float = Field(description="how many images the recent means are worth")
    groups: dict[str, Shift]
    worst: Worst | None = Field(description="None before the first image")


def summary(state: State, tolerance: Tolerance) -> Summary:
    """The recent means beside the tolerance."""
    worth = float(state.weights[RECENT] ** 2 / max(float(state.squares[RECENT]), 1e-300))
    means = state.means(RECENT)
    return Summary(
        recent_images=worth,
        groups={region.name: _shift(means[region.columns], worth, region) for region in tolerance.regions},
        worst=_worst(means, worth, tolerance) if state.n else None,
    )


def _shift(mean: Floats, worth: float, region: Region) -> Shift:
    return Shift(
        from_prior=float(np.linalg.norm(mean)),
        heldout=float(np.linalg.norm(region.mean)),
        beyond=float(np.linalg.norm(region.beyond(mean))) if worth else 0.0,
        chance=math.sqrt(len(mean) / worth) if worth else 0.0,
    )


def _worst(means: Floats, worth: float, tolerance: Tolerance) -> Worst:
    found: list[Worst] = []
    for region in tolerance.regions:
        if region.name not in ("location", "scale"):
            continue
        mean = means[region.columns]
        low, high = np.minimum(0, region.mean), np.maximum(0, region.mean)
        away = mean - np.clip(mean, low, high)
        j = int(np.abs(away).argmax())
        name: Literal["location", "scale"] = "location" if region.name == "location" else "scale"
        found.append(
            Worst(
                coordinate=j,
                statistic=name,
                value=float(mean[j]),
                heldout=float(region.mean[j]),
                z=float(away[j]) * math.sqrt(worth),
            )
        )
    return max(found, key=lambda worst: abs(worst.z))
