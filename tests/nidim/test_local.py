"""Local Deep InfoMax: the cells of a feature map against the noisy embedding."""

from __future__ import annotations

import copy
import math
import weakref

import pytest
import torch

from nidim.build import build_encoder, build_method
from nidim.capacity import resolve
from nidim.critics import SeparableCritic
from nidim.encoders import after_blocks, build_network
from nidim.methods import LocalBound, mean_over_cells
from nidim.objectives import NWJ, DonskerVaradhan, InfoNCE, JensenShannon
from nidim.spec import DatasetFacts, TrainSpec, parts
from nidim.spec.channel import gaussian_capacity, sigma_for
from nidim.spec.maps import LocalMap, feature_maps, local_map
from nidim.spec.stages import first_stage


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(size: int = 8, **values: object):
    torch.manual_seed(0)
    facts = DatasetFacts(name="x", n_train=512, n_test=64, height=size, width=size, channels=1)
    base = {"dataset": "x", "encoder": {"kind": "conv", "dim": 3, "width": 8}, "method": LOCAL}
    spec = TrainSpec.model_validate({**base, **values}).filled(facts)
    resolved = resolve(spec, facts)[0]
    model = build_encoder(spec, resolved).train()  # first, as in a training
    return build_method(spec, resolved), model


LOCAL = {"kind": "infomax", "local": 0.5}
BACKBONES = (parts.MobileNetV3SmallEncoder(), parts.EfficientNetB0Encoder(), parts.ConvNeXtTinyEncoder())
CONV, SMALL, LARGE = parts.ConvEncoder(width=4), parts.ResNet18Encoder(), parts.ResNet50Encoder()


@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        *((CONV, size) for size in (1, 2, 7, 8, 28, 33, 96)),
        *((SMALL, size) for size in (8, 33, 70)),
        (SMALL.model_copy(update={"stem": "imagenet"}), 33),
        (LARGE, 9),
        *((encoder, size) for encoder in BACKBONES for size in (8, 33, 70)),
        *((encoder.model_copy(update={"stem": "imagenet"}), 33) for encoder in BACKBONES),
        (parts.ViTSmallEncoder(), 28),
    ],
)
def test_the_maps_of_a_network_are_those_of_the_arithmetic(encoder: parts.Encoder, size: int) -> None:
    network = build_network(encoder, channels=1, image_size=size).eval()
    seen: list[tuple[int, ...]] = []

    def see(number: int, features: torch.Tensor) -> torch.Tensor:
        assert number == len(seen)
        seen.append(tuple(features.shape[1:]))
        return features

    with torch.no_grad(), after_blocks(network, see):
        network(torch.rand(2, 1, size, size))
    assert seen == [(c, side, side) for c, side in feature_maps(encoder, size)]
    with torch.no_grad():
        network(torch.rand(2, 1, size, size))
    assert len(seen) == len(feature_maps(encoder, size)), "afterwards nothing is seen"


@pytest.mark.parametrize(
    ("encoder", "size", "expected"),
    [
        (CONV, 28, LocalMap(1, 8, 7)),
        (CONV, 8, LocalMap(0, 4, 4)),
        (CONV, 96, LocalMap(2, 16, 8)),
        (CONV, 3, None),
        (SMALL, 32, LocalMap(2, 256, 8)),
        (SMALL, 224, LocalMap(3, 512, 7)),
        (LARGE, 32, LocalMap(2, 1024, 8)),
        (BACKBONES[0], 96, LocalMap(2, 48, 6)),
        (parts.ViTSmallEncoder(), 32, None),
    ],
)
def test_the_last_map_of_enough_cells_is_taken(
    encoder: parts.Encoder, size: int, expected: LocalMap | None
) -> None:
    assert local_map(encoder, size) == expected


@pytest.mark.parametrize("objective", [InfoNCE(), NWJ(), JensenShannon(), DonskerVaradhan(decay=0.9)])
def test_one_cell_at_a_time_is_the_mean_over_all_with_its_gradient(objective: torch.nn.Module) -> None:
    anchors = torch.randn((6, 2), generator=generator()).requires_grad_()
    cells = torch.randn((3, 6, 2), generator=generator(1)).requires_grad_()
    mine, theirs = (torch.nn.ModuleList(copy.deepcopy(objective) for _ in range(3)) for _ in range(2))
    for _ in range(2):  # the second time with a memory
        found = mean_over_cells(anchors, cells, mine)
        bounds = [o(anchors @ c.T) for o, c in zip(theirs, cells, strict=True)]
        expected = torch.stack([b.surrogate for b in bounds]).mean()
        torch.testing.assert_close(found.surrogate, expected)
        torch.testing.assert_close(found.nats, torch.stack([b.nats for b in bounds]).mean())
        for a, b in zip(*(torch.autograd.grad(x, (anchors, cells)) for x in (found.surrogate, expected))):  # noqa: B905
            torch.testing.assert_close(a, b)


def test_no_scores_are_kept_for_the_backward_pass() -> None:
    n, alive = 200, weakref.WeakSet()
    anchors, cells = torch.randn(n, 2, requires_grad=True), torch.randn(9, n, 2, requires_grad=True)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept = tensor.detach().clone()
        alive.add(kept)
        return kept

    def largest(objectives: list[InfoNCE]) -> int:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            plain = [o(anchors @ c.T).surrogate for o, c in zip(objectives, cells, strict=True)]
        assert sum(t.numel() for t in alive) > 9 * n * n, "as they would be: the test can see them"
        del plain
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            found = mean_over_cells(anchors, cells, objectives)
        assert found.surrogate.requires_grad
        return sum(t.numel() for t in alive)

    assert largest([InfoNCE() for _ in range(9)]) < n * n


def test_the_exact_critic_finds_the_mean_of_what_the_cells_carry() -> None:
    """Cells Y of V = Y + σ_s Z at several σ_s, and one independent of V: the mean of their capacities."""
    n, d, nats = 3000, 2, (0.5, 1.0, 2.0)
    y = torch.randn((n, d), generator=generator())
    v = y + sigma_for(d, 1.5) * torch.randn((n, d), generator=generator(1))
    ones = torch.ones(n, 1)

    def cell(x: torch.Tensor, variance: float) -> torch.Tensor:
        """[x/s², −‖x‖²/2s²]: against [v, 1] the exact score of v given x, but for a constant of the row."""
        return torch.cat([x / variance, -x.square().sum(1, keepdim=True) / (2 * variance)], dim=1)

    known, cells = [], []
    for number, capacity in enumerate(nats):
        # x = a(Y + τW) with unit variance, v | x normal of variance 1 + σ² − a² around a·x
        total = 1 + sigma_for(d, 1.5) ** 2
        a = min(math.sqrt(total * -math.expm1(-2 * capacity / d)), 1.0)
        w = torch.randn((n, d), generator=generator(2 + number))
        x = a * y + math.sqrt(1 - a**2) * w
        known.append(-d / 2 * math.log1p(-(a**2) / total))
        conditional = total - a**2
        cells.append(
            torch.cat(
                [a * x / conditional, -(a * x).square().sum(1, keepdim=True) / (2 * conditional)], dim=1
            )
        )
    cells.append(cell(torch.randn((n, d), generator=generator(9)), 1e6))
    known.append(0.0)
    found = mean_over_cells(torch.cat([v, ones], 1), torch.stack(cells), [InfoNCE() for _ in cells])
    assert float(found.nats) == pytest.approx(sum(known) / 4, abs=0.04)
    assert known[0] == pytest.approx(0.5)
    assert known[2] < gaussian_capacity(d, sigma_for(d, 1.5)) + 1e-9


def test_a_trained_critic_finds_it_too_and_no_more() -> None:
    """Four cells c = ρf + √(1 − ρ²)W of V = f + Z: each carries −log(1 − ρ²/(1 + σ²)) nats, two coordinates of them."""
    torch.manual_seed(0)
    sigma, rho = sigma_for(2, 1.5), 0.9
    known = -math.log(1 - rho**2 / (1 + sigma**2))
    bound = LocalBound(
        LocalMap(0, 2, 2),
        critic=SeparableCritic(2, hidden=48, dim=16),
        objectives=[InfoNCE() for _ in range(4)],
        weight=1.0,
    )
    dice, optimizer = generator(), torch.optim.Adam(bound.parameters(), lr=3e-3)

    def pairs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        f = torch.randn((n, 2), generator=dice)
        own = torch.randn((n, 2, 2, 2), generator=dice)
        features = rho * f[:, :, None, None] + math.sqrt(1 - rho**2) * own
        return f + sigma * torch.randn((n, 2), generator=dice), features

    for _ in range(300):
        optimizer.zero_grad()
        (-bound(*pairs(256)).surrogate).backward()
        optimizer.step()
    with torch.no_grad():
        found = float(bound(*pairs(2000)).nats)
    assert found == pytest.approx(known, abs=0.06)
    assert known < gaussian_capacity(2, sigma)


def test_the_gradient_reaches_both_branches_and_the_reported_bound_is_the_global_one() -> None:
    method, model = built()
    images, views = (torch.rand((32, 1, 8, 8), generator=generator(s), requires_grad=True) for s in (0, 1))
    noisy = method.noisy(model.latent(images), generator=generator())
    _, cells = model.latent_and_map(views, block=method.local.block, track=False)
    for gradient in torch.autograd.grad(method.local(noisy, cells).surrogate, (images, views)):
        assert gradient.abs().max() > 1e-7
    (plain, other), shown = built(method={"kind": "infomax"}), images.detach()
    with_local = method(model, shown, generator=generator())
    without = plain(other, shown, generator=generator())
    assert torch.equal(with_local.mi_nats, without.mi_nats)
    assert torch.equal(with_local.clean, without.clean)
    noisy = method.noisy(with_local.clean, generator=generator())
    assert with_local.surrogate != without.surrogate
    assert not any(key.startswith("local") for key in plain.state_dict())
    method.eval()
    assert torch.equal(method(model, shown, generator=generator()).surrogate, without.surrogate)


def test_the_weight_is_that_of_the_local_bound() -> None:
    shown, found = torch.rand((32, 1, 8, 8), generator=generator()), []
    for weight in (1.0, 3.0):
        method, model = built(method={"kind": "infomax", "local": weight})
        result = method(model, shown, generator=generator())
        found.append((result.surrogate - result.mi_nats).item())
    assert found[1] == pytest.approx(3 * found[0], rel=1e-4)


@pytest.mark.parametrize("size", [8, 28, 70])
def test_maps_of_any_size_become_cells(size: int) -> None:
    method, model = built(size, batch_size=8)
    result = method(model, torch.rand(8, 1, size, size), generator=generator())
    assert torch.isfinite(result.surrogate)
    cells = local_map(parts.ConvEncoder(), size).side ** 2
    assert len(method.local.objectives) == cells


def test_it_is_refused_where_there_are_no_cells_and_kept_in_a_first_stage() -> None:
    with pytest.raises(ValueError, match="3 pixels; use larger images or leave local out"):
        built(3, image_size=3)
    facts = DatasetFacts(name="x", n_train=512, n_test=64, height=8, width=8, channels=1)
    method = {"kind": "infomax", "local": 2.0, "neighbors": 3}
    spec = TrainSpec.model_validate({"dataset": "x", "method": method}).filled(facts)
    assert first_stage(spec, facts).method.local == 2.0
