"""Terms beside the objective that pull the clean latents towards their law.

Each is a way of others to get that law, and may stand beside the noise or instead of it.

    sliced Epps–Pulley     characteristic functions of random projections, one sample (SIGReg: arXiv 2511.08544)
    BHEP                   characteristic functions in all dimensions at once: an MMD (Baringhaus & Henze 1988;
                           as a training term, WAE-MMD: arXiv 1711.01558)
    sliced Wasserstein     sorted projections against those of prior draws, two samples (SWAE: arXiv 1804.01947)
    adversarial            a discriminator tells latents from prior draws, its gradient reversed (AAE: arXiv 1511.05644;
                           original Deep InfoMax: arXiv 1808.06670)
    uniformity             Gaussian potential of the latents' directions on the sphere (arXiv 2005.10242)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nidim.layers import mlp
from nidim.spec import matching

REACH = 3.0  # of the quadrature over the characteristic function


class Term(nn.Module):
    """A value to add to the loss, weight included."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:
        raise NotImplementedError


def random_directions(
    latent: Float[Tensor, "n d"], slices: int, generator: torch.Generator
) -> Float[Tensor, "d slices"]:
    """Unit vectors, uniform on the sphere."""
    size = (latent.shape[1], slices)
    directions = torch.randn(size, generator=generator, device=latent.device, dtype=latent.dtype)
    return directions / directions.norm(dim=0)


def sliced_epps_pulley(
    latent: Float[Tensor, "n d"], *, slices: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean over random directions of n·∫|φ_n(t) − e^{−t²/2}|² N(t; 0, 1) dt, by 17 knots on [−3, 3].

    About .42 for standard normal latents, whatever n; φ_n is the empirical characteristic function of a
    projection. Epps & Pulley 1983; as a training term on slices: arXiv 2511.08544.
    """
    projected = latent @ random_directions(latent, slices, generator)
    t = torch.linspace(-REACH, REACH, matching.KNOTS, device=latent.device, dtype=latent.dtype)
    normal = torch.exp(-0.5 * t.square())
    angles = projected[..., None] * t
    distance = (torch.cos(angles).mean(0) - normal).square() + torch.sin(angles).mean(0).square()
    weight = normal / (2 * torch.pi) ** 0.5 * (2 * REACH / (matching.KNOTS - 1))
    return len(latent) * (distance * weight).sum(-1).mean()


def bhep(latent: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """n times the squared MMD of the latents to N(0, I), k(x, y) = exp(−β²‖x − y‖²/2), unbiased: 0 for true draws.

    n·(mean_{i≠j} k(x_i, x_j) − 2(1+β²)^{−d/2} mean_i exp(−β²‖x_i‖²/(2(1+β²))) + (1+2β²)^{−d/2}), with the β of
    Henze–Zirkler for 64 points. Its kernel is narrow, so it sees what projections miss: points that pair up more
    closely than true draws do.
    """
    n, d = latent.shape
    b2 = bhep_bandwidth(d)
    kernel = torch.exp(-b2 * torch.pdist(latent).square() / 2).mean()
    cross = (1 + b2) ** (-d / 2) * torch.exp(-b2 / (2 * (1 + b2)) * latent.square().sum(1)).mean()
    return n * (kernel - 2 * cross + (1 + 2 * b2) ** (-d / 2))


def bhep_bandwidth(d: int) -> float:
    """β² of Henze–Zirkler for 64 points in R^d, kept below 16/d, beyond which no two points would be neighbours."""
    return min(0.5 * ((2 * d + 1) * 16) ** (2 / (d + 4)), 16 / d)


def sliced_wasserstein(
    latent: Float[Tensor, "n d"], *, slices: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Squared Wasserstein-2 distance of random projections to as many standard normal draws, mean over directions."""
    directions = random_directions(latent, slices, generator)
    draws = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
    found, wanted = ((x @ directions).sort(dim=0).values for x in (latent, draws))
    return (found - wanted).square().mean()


def uniformity(latent: Float[Tensor, "n d"], *, temperature: float) -> Float[Tensor, ""]:
    """log mean_{i<j} exp(−t‖u_i − u_j‖²) of the directions u = z/‖z‖; −t at the least spread, lower is more uniform."""
    directions = functional.normalize(latent, dim=1)
    return torch.logsumexp(-temperature * torch.pdist(directions).square(), 0) - math.log(
        len(latent) * (len(latent) - 1) / 2
    )


class SlicedEppsPulleyTerm(Term):
    """See ``sliced_epps_pulley``."""

    def __init__(self, term: matching.SlicedEppsPulley) -> None:
        super().__init__(term.weight)
        self.slices, self.bhep = term.slices, term.bhep

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:
        value = self.weight * sliced_epps_pulley(latent, slices=self.slices, generator=generator)
        return value + self.bhep * bhep(latent) if self.bhep else value


class BHEPTerm(Term):
    """See ``bhep``."""

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:  # noqa: ARG002
        return self.weight * bhep(latent)


class SlicedWassersteinTerm(Term):
    """See ``sliced_wasserstein``."""

    def __init__(self, term: matching.SlicedWasserstein) -> None:
        super().__init__(term.weight)
        self.slices = term.slices

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:
        return self.weight * sliced_wasserstein(latent, slices=self.slices, generator=generator)


class UniformityTerm(Term):
    """See ``uniformity``."""

    def __init__(self, term: matching.Uniformity) -> None:
        super().__init__(term.weight)
        self.temperature = term.temperature

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:  # noqa: ARG002
        return self.weight * uniformity(latent, temperature=self.temperature)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round (Ganin & Lempitsky 2015, arXiv 1409.7495)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


class AdversarialTerm(Term):
    """A discriminator of latents and prior draws, trained in the same step as the encoder that it judges.

    The discriminator descends its own cross entropy; what comes back to the encoder is reversed and weighted.
    """

    def __init__(self, term: matching.AdversarialPrior, dim: int) -> None:
        super().__init__(term.weight)
        self.discriminator = mlp(dim, term.hidden, term.hidden, 1)

    def forward(self, latent: Float[Tensor, "n d"], *, generator: torch.Generator) -> Float[Tensor, ""]:
        draws = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        seen: Tensor = _Reversed.apply(latent, self.weight)
        fake, real = self.discriminator(seen), self.discriminator(draws)
        return (functional.softplus(fake) + functional.softplus(-real)).mean()


def build_regularizer(term: matching.Regularizer, dim: int) -> Term | None:
    """The term of a spec for latents (n, dim); None without one."""
    if term.kind == "sliced_epps_pulley":
        return SlicedEppsPulleyTerm(term)
    if term.kind == "bhep":
        return BHEPTerm(term.weight)
    if term.kind == "sliced_wasserstein":
        return SlicedWassersteinTerm(term)
    if term.kind == "uniformity":
        return UniformityTerm(term)
    return AdversarialTerm(term, dim) if term.kind == "adversarial" else None
