"""What a method is made of and what it gives back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.augment import augment
from nidim.capacity import Resolved
from nidim.encoders import EncoderModel
from nidim.noise import draw
from nidim.objectives import infonce
from nidim.spec.parts import Augmentation


class StepResult(NamedTuple):
    """``surrogate``: to climb. ``mi_nats``: the bound, to report. ``clean``: clean latents (n, d)."""

    surrogate: Tensor
    mi_nats: Tensor
    clean: Tensor


class Wiring(NamedTuple):
    """What every method is made of; its own losses come beside it."""

    head: nn.Module
    augmentation: Augmentation
    resolved: Resolved


class Method(nn.Module):
    """Holds what is trained beside the encoder (head, critic, buffers of the objective)."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.head, self._augmentation, self._resolved = wiring

    def view(
        self, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """An augmentation of each image."""
        return augment(images, self._augmentation, generator=generator)

    def noisy(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """f + Z: the one line that nidim adds to a method."""
        return latent + draw(latent, resolved=self._resolved, generator=generator)

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        raise NotImplementedError

    def begin(self, model: EncoderModel) -> None:
        """Called once, before the first step: what starts as a copy of the encoder is made here."""

    def after_step(self, model: EncoderModel, done: float) -> None:
        """Called after every update; ``done`` in (0, 1] of the training is over."""


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Of every pair of rows."""
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


@torch.no_grad()
def shown_nats(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], *, temperature: float) -> Float[Tensor, ""]:
    """InfoNCE of two views by their cosines over a temperature, nats: a bound, whatever the method itself climbs."""
    return infonce(cosines(a, b) / temperature)
