"""LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544): views pulled together, their law pulled to N(0, I) by SIGReg.

    (1 − λ)·mean_v ‖z_v − mean z‖² + λ·mean_v sliced Epps–Pulley(z_v)

No negatives, no critic, no target network; a rival here, whose law comes from the term alone unless noise is asked for.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring, shown_nats
from nidim.methods.redundancy import SHOWN_TEMPERATURE
from nidim.regularizers import sliced_epps_pulley
from nidim.spec.parts import LeJEPAMethod


class LeJEPA(Method):
    """Two augmented views; noise, if any, on the first."""

    def __init__(self, wiring: Wiring, *, settings: LeJEPAMethod) -> None:
        super().__init__(wiring)
        self.settings = settings

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        first, second = self.two_views(model, images, generator=generator)
        views = self.projections(first, second, generator=generator)
        middle = (views[0] + views[1]) / 2
        apart = torch.stack([(z - middle).square().mean() for z in views]).mean()
        slices = self.settings.slices
        law = torch.stack([sliced_epps_pulley(z, slices=slices, generator=generator) for z in views]).mean()
        loss = (1 - self.settings.weight) * apart + self.settings.weight * law
        nats = shown_nats(views[0], views[1], temperature=SHOWN_TEMPERATURE)
        return StepResult(surrogate=-loss, mi_nats=nats, clean=first)
