"""Noise-injected Deep InfoMax (arXiv 2410.06993): maximise I(f(X'); f(X) + Z).

X an image, X' an augmentation of it, Z noise on the normalised output of the *clean* branch, in training only;
then, if asked for, a projection head on both branches: the bound stays valid by data processing. The encoder is
shared and gets gradient through both branches. The row of a score is the noisy clean embedding. Beside this global
bound may stand a local one, about the cells of a feature map of the view (``nidim.methods.local``).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nidim.critics import FactoredCritic
from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring
from nidim.methods.local import LocalBound
from nidim.objectives import Bound, InfoNCE, Objective, infonce_in_blocks
from nidim.spec import parts


class InfoMax(Method):
    """Clean image and one augmented view, each through the encoder on its own; ``mi_nats`` is the global bound."""

    def __init__(
        self, wiring: Wiring, *, critic: nn.Module, objective: Objective, local: LocalBound | None = None
    ) -> None:
        super().__init__(wiring)
        self.critic, self.objective, self.local = critic, objective, local

    def forward(
        self,
        model: EncoderModel,
        images: Float[Tensor, "n c h w"],
        *,
        generator: torch.Generator,
        partners: Float[Tensor, "n c h w"] | None = None,
    ) -> StepResult:
        """``partners``: what the second branch sees, augmented, instead of the images themselves."""
        clean = self.clean_branch(model, images, generator=generator)
        shown = self.view(images if partners is None else partners, generator=generator)
        if self.local is None or not self.training:
            view, cells = model.latent(shown, track=False), None
        else:
            view, cells = model.latent_and_map(shown, block=self.local.block, track=False)
        noisy, other = self.noisy(clean, generator=generator), self.other(view, generator=generator)
        bound = self.bound(self.head(noisy), self.head(other))
        surrogate = bound.surrogate
        if self.local is not None and cells is not None:
            surrogate = surrogate + self.local.weight * self.local(noisy, cells).surrogate
        return StepResult(surrogate=surrogate, mi_nats=bound.nats, clean=clean)

    def bound(self, anchors: Float[Tensor, "n d"], candidates: Float[Tensor, "n d"]) -> Bound:
        """The objective of all pairs; of a large batch, where critic and objective allow, a block of rows at a time."""
        if (
            len(anchors) > parts.WHOLE_BATCH
            and isinstance(self.critic, FactoredCritic)
            and isinstance(self.objective, InfoNCE)
        ):
            value = infonce_in_blocks(*self.critic.factors(anchors, candidates))
            return Bound(nats=value, surrogate=value)
        return self.objective(self.critic(anchors, candidates))
