"""Noise-injected Deep InfoMax (arXiv 2410.06993): maximise I(f(X'); f(X) + Z).

X an image, X' an augmentation of it, Z noise on the normalised output of the *clean* branch, in training only;
then, if asked for, a projection head on both branches: the bound stays valid by data processing. The encoder is
shared and gets gradient through both branches. The row of a score is the noisy clean embedding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring
from nidim.objectives import Objective


class InfoMax(Method):
    """Clean image and one augmented view, each through the encoder on its own."""

    def __init__(self, wiring: Wiring, *, critic: nn.Module, objective: Objective) -> None:
        super().__init__(wiring)
        self.critic, self.objective = critic, objective

    def forward(
        self,
        model: EncoderModel,
        images: Float[Tensor, "n c h w"],
        *,
        generator: torch.Generator,
        partners: Float[Tensor, "n c h w"] | None = None,
    ) -> StepResult:
        """``partners``: what the second branch sees, augmented, instead of the images themselves."""
        clean = model.latent(images)
        shown = self.view(images if partners is None else partners, generator=generator)
        view = model.latent(shown, track=False)
        bound = self.objective(self.critic(*self.projections(clean, view, generator=generator)))
        return StepResult(surrogate=bound.surrogate, mi_nats=bound.nats, clean=clean)
