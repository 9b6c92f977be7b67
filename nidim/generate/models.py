"""What turns normal scores of an embedding, and noise, into images; and how it is trained.

    flow_matching   x_t = (1 − t) ε + t x; a U-Net learns v(x_t, t, s) ≈ x − ε; Heun's method from ε at t = 0 to t = 1
    gan             G(s, ε) against a discriminator that compares by projection, hinge loss

The condition s (n, d) is in the scale of ``Prior.positions``: for most laws its normal scores, so that a generator sees
N(0, I) whatever the law is. Images inside are float (n, c, h, w) in [−1, 1].
"""

from __future__ import annotations

import abc
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from nidim.generate.unet import UNet
from nidim.layers import LEAK
from nidim.spec.generator import (
    FlowMatchingModel,
    FullGeneratorSpec,
    GANModel,
    ResolvedGenerator,
    noise_values,
)

LEAST_SIDE = 8
"""Pixels that the discriminator pads smaller images to: it halves them twice."""

Images = Float[Tensor, "n c h w"]
Scores = Float[Tensor, "n d"]
BETAS = {"flow_matching": (0.9, 0.999), "gan": (0.0, 0.99)}
"""Of Adam: a GAN's two losses chase each other, and momentum overshoots."""


class Generator(nn.Module, abc.ABC):
    """``noise_values``: how many numbers of N(0, 1) an image takes beside its condition.

    The condition is blurred: s' = (s + σ ε) / √(1 + σ²), of the same law N(0, I) as s where s follows it, and nearer to
    it where it does not. ``sigma``: σ.
    """

    def __init__(self, sigma: float, values: int) -> None:
        super().__init__()
        self.sigma, self.noise_values = sigma, values

    def images(self, s: Scores, noise: Float[Tensor, "n k"]) -> Images:
        """Images in [−1, 1] (not clipped) for conditions and noise; the same for the same."""
        dim = s.shape[1]
        return self.drawn(self.blurred(s, noise[:, :dim]), noise[:, dim:])

    def blurred(self, s: Scores, noise: Scores) -> Scores:
        """The condition that the network sees."""
        return (s + self.sigma * noise) / math.sqrt(1 + self.sigma**2)

    @abc.abstractmethod
    def drawn(self, s: Scores, noise: Float[Tensor, "n k"]) -> Images:
        """Images of blurred conditions."""


class Training(nn.Module, abc.ABC):
    """A generator with whatever is trained beside it; every parameter is the optimiser's."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def loss(self, images: Images, s: Scores, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """What is lowered, for real images in [−1, 1] and the conditions of their embeddings."""
        noise = torch.randn(s.shape, generator=generator, device=s.device)
        return self.loss_of(images, self.generator.blurred(s, noise), generator=generator)

    @abc.abstractmethod
    def loss_of(self, images: Images, s: Scores, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """The same of blurred conditions."""


class FlowMatching(Generator):
    """Conditional flow matching (Lipman et al. 2023) along straight lines (Liu et al. 2023)."""

    def __init__(self, model: FlowMatchingModel, resolved: ResolvedGenerator, *, sigma: float) -> None:
        super().__init__(sigma, noise_values(model, resolved))
        self.shape = (resolved.channels, resolved.image_size, resolved.image_size)
        self.steps = model.steps
        self.network = UNet(
            channels=resolved.channels,
            side=resolved.image_size,
            dim=resolved.dim,
            width=model.width,
            depth=model.depth,
        )

    def drawn(self, s: Scores, noise: Float[Tensor, "n k"]) -> Images:
        x, step = noise.reshape(-1, *self.shape), 1 / self.steps
        for number in range(self.steps):
            t = torch.full((len(x),), number * step, dtype=x.dtype, device=x.device)
            here = self.network(x, t, s).float()
            there = self.network(x + step * here, t + step, s).float()
            x = x + step * (here + there) / 2
        return x


class GAN(Generator):
    """The generator of a conditional GAN: a linear layer, then twice the size twice."""

    def __init__(self, model: GANModel, resolved: ResolvedGenerator, *, sigma: float) -> None:
        super().__init__(sigma, noise_values(model, resolved))
        self.noise, self.side = model.noise, resolved.image_size
        self.start = math.ceil(resolved.image_size / 4)
        wide = 2 * model.width
        self.enter = nn.Linear(resolved.dim + model.noise, wide * self.start**2)
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(wide), nn.ReLU(), nn.Upsample(scale_factor=2)),
            nn.Conv2d(wide, wide, 3, padding=1),
            *(nn.BatchNorm2d(wide), nn.ReLU(), nn.Upsample(scale_factor=2)),
            nn.Conv2d(wide, model.width, 3, padding=1),
            *(nn.BatchNorm2d(model.width), nn.ReLU()),
            nn.Conv2d(model.width, resolved.channels, 3, padding=1),
            nn.Tanh(),
        )

    def drawn(self, s: Scores, noise: Float[Tensor, "n k"]) -> Images:
        h = self.enter(torch.cat([s, noise], dim=1)).view(len(s), -1, self.start, self.start)
        found: Images = self.body(h)[..., : self.side, : self.side]
        return found


class Discriminator(nn.Module):
    """Real or made, given the condition: ψ(φ(x)) + ⟨V s, φ(x)⟩ (Miyato & Koyama 2018), spectrally normalised."""

    def __init__(self, model: GANModel, resolved: ResolvedGenerator) -> None:
        super().__init__()
        width = model.width
        self.features = nn.Sequential(
            *(spectral_norm(nn.Conv2d(resolved.channels, width, 3, padding=1)), nn.LeakyReLU(10 * LEAK)),
            *(spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)), nn.LeakyReLU(10 * LEAK)),
            *(
                spectral_norm(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)),
                nn.LeakyReLU(10 * LEAK),
            ),
        )
        self.real = spectral_norm(nn.Linear(4 * width, 1))
        self.direction = spectral_norm(nn.Linear(resolved.dim, 4 * width, bias=False))

    def forward(self, images: Images, s: Scores) -> Float[Tensor, " n"]:
        short = max(0, LEAST_SIDE - images.shape[-1])
        images = functional.pad(images, (0, short, 0, short))
        features = self.features(images).sum((2, 3)) / math.sqrt(images.shape[-1] * images.shape[-2] / 16)
        score: Tensor = self.real(features)[:, 0] + (self.direction(s) * features).sum(1)
        return score


class VelocityTraining(Training):
    """Mean squared error of the velocity, at one time in each of n equal stretches: less variance than n draws."""

    generator: FlowMatching

    def loss_of(self, images: Images, s: Scores, *, generator: torch.Generator) -> Float[Tensor, ""]:
        n = len(images)
        place = torch.randperm(n, generator=generator, device=images.device)
        jitter = torch.rand(n, generator=generator, device=images.device)
        t = (place + jitter) / n
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        along = t[:, None, None, None]
        velocity = self.generator.network((1 - along) * noise + along * images, t, s)
        return functional.mse_loss(velocity.float(), images - noise)


class AdversarialTraining(Training):
    """The hinge losses of generator and discriminator; each gets the gradient of its own alone."""

    generator: GAN

    def __init__(self, generator: GAN, discriminator: Discriminator) -> None:
        super().__init__(generator)
        self.discriminator = discriminator

    def loss_of(self, images: Images, s: Scores, *, generator: torch.Generator) -> Float[Tensor, ""]:
        noise = torch.randn(len(s), self.generator.noise, generator=generator, device=s.device)
        made = self.generator.drawn(s, noise)
        real, fake = self.discriminator(images, s), self.discriminator(made.detach(), s)
        hinge = functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean()
        self.discriminator.requires_grad_(False)
        fooled = -self.discriminator(made, s).float().mean()
        self.discriminator.requires_grad_(True)
        return hinge + fooled


def build_generator(spec: FullGeneratorSpec, resolved: ResolvedGenerator) -> Generator:
    """The generator of a spec, randomly initialised from torch's default generator, float32, CPU."""
    model, sigma = spec.model, spec.condition_noise
    if model.kind == "flow_matching":
        return FlowMatching(model, resolved, sigma=sigma)
    return GAN(model, resolved, sigma=sigma)


def build_training(spec: FullGeneratorSpec, resolved: ResolvedGenerator) -> Training:
    """The same with what is trained beside it."""
    model, sigma = spec.model, spec.condition_noise
    if model.kind == "flow_matching":
        return VelocityTraining(FlowMatching(model, resolved, sigma=sigma))
    return AdversarialTraining(GAN(model, resolved, sigma=sigma), Discriminator(model, resolved))
