"""Methods without negatives that predict one view from the other, with noise on the view that predicts.

    BYOL       Grill et al. 2020, arXiv 2006.07733: the target is a moving average of encoder and head
    SimSiam    Chen & He 2021, arXiv 2011.10566: the target is the encoder itself, without gradient

There is no critic of the noisy channel here, so no bound is climbed; whether noise still shapes the law is measured.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.encoders import EncoderModel
from nidim.methods.base import Method, StepResult, Wiring, shown_nats
from nidim.methods.redundancy import SHOWN_TEMPERATURE


def distance(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean of 2 − 2 cos, with no gradient through ``target``."""
    return 2 - 2 * functional.cosine_similarity(predicted, target.detach(), dim=1).mean()


class SimSiam(Method):
    """Both views predict each other; each carries noise where it predicts and none where it is predicted.

    Noise between the blocks is in both: SimSiam's targets come from the same pass.
    """

    def __init__(self, wiring: Wiring, *, predictor: nn.Module) -> None:
        super().__init__(wiring)
        self.predictor = predictor

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        views = [self.view(images, generator=generator) for _ in range(2)]
        latents = [
            self.clean_branch(model, view, track=number == 0, generator=generator)
            for number, view in enumerate(views)
        ]
        projected = [self.head(self.noisy(f, generator=generator)) for f in latents]
        targets = self.targets(views, latents)
        first, second = (
            distance(self.predictor(z), target) for z, target in zip(projected, targets[::-1], strict=True)
        )
        nats = shown_nats(projected[0], targets[1], temperature=SHOWN_TEMPERATURE)
        return StepResult(surrogate=-(first + second) / 2, mi_nats=nats, clean=latents[0])

    @torch.no_grad()
    def targets(self, views: list[Tensor], latents: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """Projections of the clean views that are to be predicted."""
        return [self.head(f) for f in latents]


class BYOL(SimSiam):
    """SimSiam whose targets come from a slowly following copy of encoder and head."""

    target: EncoderModel
    target_head: nn.Module

    def __init__(self, wiring: Wiring, *, predictor: nn.Module, momentum: float) -> None:
        super().__init__(wiring, predictor=predictor)
        self.momentum = momentum

    def begin(self, model: EncoderModel) -> None:
        self.target = copy.deepcopy(model).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)

    @torch.no_grad()
    def targets(self, views: list[Tensor], latents: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        return [self.target_head(self.target.latent(view, track=False)) for view in views]

    @torch.no_grad()
    def after_step(self, model: EncoderModel, done: float) -> None:
        """θ' ← m θ' + (1 − m) θ; m climbs to 1 on half a cosine."""
        follow = (1 - self.momentum) * (math.cos(math.pi * done) + 1) / 2
        for old, new in self._pairs(model):
            old.lerp_(new, follow)

    def _pairs(self, model: EncoderModel) -> Iterator[tuple[Tensor, Tensor]]:
        for slow, fast in ((self.target, model), (self.target_head, self.head)):
            yield from zip(slow.parameters(), fast.parameters(), strict=True)
