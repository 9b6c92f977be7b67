"""Terms that pull latents to their law: small on true draws, large off them, and a descent leads there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from nidim.evaluate import bhep as evaluated
from nidim.regularizers import (
    Term,
    bhep,
    bhep_bandwidth,
    build_regularizer,
    sliced_epps_pulley,
    sliced_wasserstein,
    uniformity,
)
from nidim.spec import matching

TERMS = [
    matching.SlicedEppsPulley(),
    matching.SlicedWasserstein(),
    matching.BHEPDistance(),
    matching.AdversarialPrior(hidden=32),
    matching.Uniformity(),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_epps_pulley_is_small_for_normal_latents_and_large_for_others() -> None:
    normal = torch.randn(2000, 4, generator=generator())
    statistic = float(sliced_epps_pulley(normal, slices=256, generator=generator()))
    assert statistic == pytest.approx(0.42, abs=0.12)
    for other in (normal + 0.3, normal * 1.3, normal.sign()):
        assert float(sliced_epps_pulley(other, slices=256, generator=generator())) > 5


@pytest.mark.parametrize("d", [2, 16, 128])
def test_bhep_is_the_statistic_of_the_report_without_its_diagonal(d: int) -> None:
    x = torch.randn(300, d, generator=generator()).double()
    assert bhep_bandwidth(d) == pytest.approx(evaluated.bandwidth(d))
    kernel = torch.exp(-bhep_bandwidth(d) * torch.pdist(x).square() / 2).mean()
    assert float(bhep(x) + 1 - kernel) == pytest.approx(evaluated.statistic(x.numpy()), rel=1e-9)


def test_bhep_sees_pairs_that_slices_miss() -> None:
    """Every point twice, sixteen dimensions: each projection is normal, but true draws do not pair up."""
    x = torch.randn(256, 16, generator=generator())
    twice = torch.cat([x, x + 0.3 * torch.randn(x.shape, generator=generator(1))]) / (1 + 0.09 / 2) ** 0.5
    true = torch.stack([bhep(torch.randn(512, 16, generator=generator(s))) for s in range(2, 30)])
    assert abs(float(true.mean())) < 3 * float(true.std()) / len(true) ** 0.5
    assert float(bhep(twice)) > float(true.mean() + 20 * true.std())
    both = [float(sliced_epps_pulley(z, slices=64, generator=generator(3))) for z in (x, twice)]
    assert both[1] < 3 * both[0]


def test_the_sliced_term_takes_bhep_beside_it() -> None:
    latent = torch.randn(64, 2, generator=generator()) + 0.2
    alone = built(matching.SlicedEppsPulley(weight=0.5))(latent, generator=generator(5))
    beside = built(matching.SlicedEppsPulley(weight=0.5, bhep=3))(latent, generator=generator(5))
    torch.testing.assert_close(beside - alone, 3 * bhep(latent))


def test_wasserstein_is_scipys_in_one_dimension_and_finds_every_departure() -> None:
    """In one dimension every direction is the line itself; W2 of a shifted sample is the shift."""
    x = torch.randn(500, 1, generator=generator(1))
    g = generator(2)
    torch.randn((1, 3), generator=g)  # the directions
    draws = torch.randn(x.shape, generator=g)
    found = float(sliced_wasserstein(x, slices=3, generator=generator(2)))
    expected = np.square(np.sort(x[:, 0].numpy()) - np.sort(draws[:, 0].numpy())).mean()
    assert found == pytest.approx(expected, rel=1e-5)
    assert found < stats.wasserstein_distance((x[:, 0] + 1).numpy(), draws[:, 0].numpy())
    normal = torch.randn(2000, 4, generator=generator())
    floor = float(sliced_wasserstein(normal, slices=128, generator=generator()))
    for other in (normal + 0.3, normal * 1.3, normal.sign()):
        assert float(sliced_wasserstein(other, slices=128, generator=generator())) > 5 * floor


def test_uniformity_equals_a_slow_reference() -> None:
    x = torch.randn(20, 3, generator=generator())
    u = functional.normalize(x, dim=1)
    pairs = [math.exp(-2 * float((u[i] - u[j]).square().sum())) for i in range(20) for j in range(i)]
    assert float(uniformity(x, temperature=2.0)) == pytest.approx(math.log(np.mean(pairs)), rel=1e-4)
    assert uniformity(x, temperature=2.0) < uniformity(x + 3, temperature=2.0)


def test_the_discriminator_descends_and_the_latents_climb() -> None:
    """One gradient, two players: better for the discriminator, worse for it through the latents."""
    term = built(matching.AdversarialPrior(hidden=32, weight=0.7))
    latent = (torch.randn(256, 2, generator=generator()) + 1).requires_grad_()
    loss = term(latent, generator=generator(1))
    loss.backward()
    with torch.no_grad():
        for parameter in term.parameters():
            parameter.sub_(0.05 * parameter.grad)
        assert term(latent, generator=generator(1)) < loss
        for parameter in term.parameters():
            parameter.add_(0.05 * parameter.grad)
        moved = latent - 5.0 * latent.grad
        assert term(moved, generator=generator(1)) > loss
    (unit,) = torch.autograd.grad(
        built(matching.AdversarialPrior(hidden=32, weight=1.4))(latent, generator=generator(1)), latent
    )
    torch.testing.assert_close(unit, 2 * latent.grad)


@pytest.mark.parametrize("part", TERMS[:4], ids=lambda part: part.kind)
def test_a_descent_leads_to_the_law(part: matching.Regularizer) -> None:
    """Latents of their own, far from N(0, I) at the start, moved by the term alone."""
    term, random = built(part), generator(3)
    latent = (0.4 * torch.rand(400, 2, generator=random) + 0.5).requires_grad_()
    optimizer = torch.optim.Adam([latent, *term.parameters()], lr=0.02, betas=(0.5, 0.9))
    before = distance(latent)
    for _ in range(200):
        optimizer.zero_grad()
        term(latent, generator=random).backward()
        optimizer.step()
    assert distance(latent) < before / 20


def distance(latent: torch.Tensor) -> float:
    """Sliced Wasserstein-2 to N(0, I), squared."""
    return float(sliced_wasserstein(latent.detach(), slices=64, generator=generator(9)))


@pytest.mark.parametrize("part", TERMS, ids=lambda part: part.kind)
def test_weights_scale_and_numbers_come_from_the_generator(part: matching.Regularizer) -> None:
    latent = torch.randn(64, 2, generator=generator())
    once = built(part)(latent, generator=generator(5))
    assert torch.equal(once, built(part)(latent, generator=generator(5)))
    if part.kind != "adversarial":
        double = built(part.model_copy(update={"weight": 2 * part.weight}))
        torch.testing.assert_close(double(latent, generator=generator(5)), 2 * once)


NO_BFLOAT16 = ("bhep", "uniformity")
"""torch.pdist has none."""


@pytest.mark.parametrize("part", TERMS, ids=lambda part: part.kind)
def test_the_precision_is_that_of_the_latents(part: matching.Regularizer) -> None:
    latent = torch.rand(256, 2, generator=generator()) + 1
    single = built(part)(latent, generator=generator(5)).detach()
    for dtype in (torch.float64, torch.bfloat16)[: 1 if part.kind in NO_BFLOAT16 else 2]:
        found = built(part).to(dtype)(latent.to(dtype), generator=generator(5)).detach()
        assert found.dtype == dtype
        assert float(found) == pytest.approx(float(single), rel=0.3)  # other numbers of other draws


def built(part: matching.Regularizer) -> Term:
    torch.manual_seed(0)
    term = build_regularizer(part, 2)
    assert term is not None
    return term
