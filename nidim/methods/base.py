"""What a method is made of and what it gives back."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.augment import augment
from nidim.capacity import Resolved
from nidim.encoders import AfterBlock, EncoderModel
from nidim.noise import SharedCapacity, draw, perturb
from nidim.objectives import infonce
from nidim.spec.matching import Noise
from nidim.spec.views import Augmentation
from nidim.world import ALONE, World


class StepResult(NamedTuple):
    """``surrogate``: to climb. ``mi_nats``: the bound, to report. ``clean``: clean latents (n, d)."""

    surrogate: Tensor
    mi_nats: Tensor
    clean: Tensor


class Wiring(NamedTuple):
    """What every method is made of; its own losses come beside it."""

    head: nn.Module
    augmentation: Augmentation
    noise: Noise
    resolved: Resolved


class Method(nn.Module):
    """Holds what is trained beside the encoder (head, critic, buffers of the objective).

    ``done``: the share of the training that is over, in [0, 1]; the loop sets it before a step. ``world``: over how
    many processes it is spread; n images are a rank's rows, m latents those of all ranks.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.head, self._augmentation, self._noise, self._resolved = wiring
        self.shares = SharedCapacity(self._resolved.dim) if _is_learned(self._noise) else None
        self.done = 1.0
        self.world: World = ALONE

    def view(
        self, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """An augmentation of each image."""
        return augment(images, self._augmentation, generator=generator, world=self.world)

    def two_views(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Latents of two augmentations of each image; the first is the clean branch."""
        first = self.clean_branch(model, self.view(images, generator=generator), generator=generator)
        return first, model.latent(self.view(images, generator=generator), track=False)

    def clean_branch(
        self,
        model: EncoderModel,
        images: Float[Tensor, "n c h w"],
        *,
        generator: torch.Generator,
        track: bool = True,
    ) -> Float[Tensor, "m d"]:
        """Latents of the branch that is to have noise; in training with noise after each block, if asked for."""
        return model.latent(images, track=track, after_block=self._within(generator))

    def noisy(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """f + Z: the one line that nidim adds to a method."""
        return latent + self._strength() * draw(latent, resolved=self._resolved, generator=generator)

    def other(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """The branch that has noise only where the spec asks for it on both."""
        both = self._noise.kind == "gaussian" and self._noise.branches == "both"
        return self.noisy(latent, generator=generator) if both else latent

    def projections(
        self, first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Both branches after their noise and the head; ``first`` always has noise."""
        noisy, other = self.noisy(first, generator=generator), self.other(second, generator=generator)
        return self.head(noisy), self.head(other)

    def _within(self, generator: torch.Generator) -> AfterBlock | None:
        """What adds the noise between the blocks of the network; None without, and in evaluation."""
        if self._noise.kind != "gaussian" or self._noise.layers == 0 or not self.training:
            return None
        sigma, world = self._noise.layers, self.world
        return lambda _block, features: perturb(features, sigma=sigma, generator=generator, world=world)

    def _strength(self) -> float | Float[Tensor, " d"]:
        """σ now over σ at the end; where it is learned, that of each coordinate."""
        sigma = self._resolved.sigma
        if self._noise.kind != "gaussian" or sigma is None:
            return 1.0
        start = sigma if self._noise.start is None else self._noise.start
        strength = 1 + (start / sigma - 1) * (1 + math.cos(math.pi * self.done)) / 2
        return strength if self.shares is None else self.shares(strength * sigma) / sigma

    @torch.no_grad()
    def learned_sigmas(self) -> tuple[float, ...] | None:
        """σ of each coordinate at the end of the training; None unless they are learned."""
        sigma = self._resolved.sigma
        return None if self.shares is None or sigma is None else tuple(self.shares(sigma).tolist())

    def forward(
        self, model: EncoderModel, images: Float[Tensor, "n c h w"], *, generator: torch.Generator
    ) -> StepResult:
        raise NotImplementedError

    def begin(self, model: EncoderModel) -> None:
        """Called once, before the first step: what starts as a copy of the encoder is made here."""

    def after_step(self, model: EncoderModel, done: float) -> None:
        """Called after every update; ``done`` in (0, 1] of the training is over."""


def _is_learned(noise: Noise) -> bool:
    return noise.kind == "gaussian" and noise.learned


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Of every pair of rows."""
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


@torch.no_grad()
def shown_nats(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], *, temperature: float) -> Float[Tensor, ""]:
    """InfoNCE of two views by their cosines over a temperature, nats: a bound, whatever the method itself climbs."""
    return infonce(cosines(a, b) / temperature)
