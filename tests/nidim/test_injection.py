"""Noise elsewhere than at the output, and σ that is learned: devices of training, of which nothing served knows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nidim import bundle, pipeline
from nidim.build import build_encoder, build_method
from nidim.capacity import resolve
from nidim.data import load_builtin
from nidim.methods import base
from nidim.noise import MOST_SHARE, SharedCapacity, perturb, sigma_carrying
from nidim.noisy import add_noise
from nidim.priors import make_prior
from nidim.spec import DatasetFacts, TrainSpec
from nidim.spec.channel import gaussian_capacity, sigma_for


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(noise: dict | None = None, **values: object):
    torch.manual_seed(0)
    facts = DatasetFacts(name="x", n_train=512, n_test=64, height=8, width=8, channels=1)
    given = {"kind": "gaussian", "sigma": 0.5, **(noise or {})}
    base = {"dataset": "x", "encoder": {"kind": "conv", "dim": 3, "width": 8}, "noise": given}
    spec = TrainSpec.model_validate({**base, **values}).filled(facts)
    resolved = resolve(spec, facts)[0]
    method, model = build_method(spec, resolved), build_encoder(spec, resolved).train()
    method.begin(model)
    return method, model


IMAGES = torch.rand((32, 1, 8, 8), generator=generator(5))


def test_noise_between_blocks_is_relative_to_each_channel() -> None:
    scales = torch.tensor([0.1, 1.0, 30.0]).view(1, 3, 1, 1)
    features = 7 + scales * torch.randn((2000, 3, 4, 4), generator=generator())
    added = perturb(features, sigma=0.5, generator=generator(1)) - features
    deviations = added.std(dim=(0, 2, 3))
    torch.testing.assert_close(deviations, 0.5 * scales.flatten(), rtol=0.02, atol=0)
    assert added.mean(dim=(0, 2, 3)).div(deviations).abs().max() < 0.02
    correlations = torch.corrcoef(added.permute(1, 0, 2, 3).flatten(1)) - torch.eye(3)
    assert correlations.abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_between_blocks_keeps_type_and_layout_and_repeats_with_the_seed(dtype: torch.dtype) -> None:
    features = torch.randn(8, 3, 4, 4, dtype=dtype).contiguous(memory_format=torch.channels_last)
    found = perturb(features, sigma=0.5, generator=generator())
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, perturb(features, sigma=0.5, generator=generator()))
    assert not torch.equal(found, perturb(features, sigma=0.5, generator=generator(1)))
    assert torch.equal(features, perturb(features, sigma=0.0, generator=generator()))


def test_activations_cannot_escape_the_noise_by_growing_and_the_gradient_knows() -> None:
    features = torch.randn((16, 3, 4, 4), generator=generator()).requires_grad_()
    weights = torch.randn((16, 3, 4, 4), generator=generator(1))
    once = (weights * perturb(features, sigma=0.5, generator=generator(2))).sum()
    twice = (weights * perturb(2 * features, sigma=0.5, generator=generator(2))).sum()
    torch.testing.assert_close(twice, 2 * once, rtol=1e-4, atol=0)
    (slope,) = torch.autograd.grad(once, features)
    torch.testing.assert_close((slope * features).sum(), once, rtol=1e-4, atol=0)  # Euler, of degree 1


CALLS = {"infomax": 3, "simclr": 3, "vicreg": 3, "barlow_twins": 3, "lejepa": 3, "byol": 6, "simsiam": 6}


@pytest.mark.parametrize("kind", CALLS)
def test_each_block_of_the_branch_with_noise_has_it_in_training_only(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BYOL and SimSiam have noise on both views; the target network of BYOL has none."""
    calls: list[float] = []

    def counted(features: torch.Tensor, *, sigma: float, **given: Any) -> torch.Tensor:
        calls.append(sigma)
        return perturb(features, sigma=sigma, **given)

    monkeypatch.setattr(base, "perturb", counted)
    method, model = built({"layers": 0.25}, method={"kind": kind})
    method(model, IMAGES, generator=generator())
    assert calls == [0.25] * CALLS[kind]
    assert not any(module._forward_hooks for module in model.modules()), "nothing stays on the network"
    calls.clear()
    method, model = built({"layers": 0.25}, method={"kind": kind})
    with_layers = method.eval()(model, IMAGES, generator=generator())
    assert calls == []
    plain, other = built(method={"kind": kind})
    without = plain.eval()(other, IMAGES, generator=generator())
    assert torch.equal(with_layers.mi_nats, without.mi_nats)
    assert torch.equal(with_layers.clean, without.clean)


def test_noise_between_blocks_moves_the_clean_branch_alone() -> None:
    method, model = built({"layers": 0.5})
    before = [model.latent(IMAGES, track=False) for _ in range(2)]
    assert torch.equal(*before)
    found = [method.clean_branch(model, IMAGES, generator=generator(s)) for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    for other in (found[2], before[0]):
        assert (found[0] - other).abs().max() > 0.05
    torch.testing.assert_close(found[0].var(0, correction=0), torch.ones(3), rtol=1e-3, atol=0)
    (slope,) = torch.autograd.grad(
        found[0].square().mean() + found[0][0, 0], model.network.features[0].weight
    )
    assert slope.abs().max() > 0


def capacity(sigmas: torch.Tensor) -> float:
    return float(torch.log1p(sigmas.detach().double() ** -2).sum() / 2)


@pytest.mark.parametrize("dim", [2, 16, 500])
@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 100.0])
def test_whatever_is_learned_the_capacity_is_that_of_the_common_sigma(dim: int, sigma: float) -> None:
    shares = SharedCapacity(dim)
    torch.testing.assert_close(shares(sigma), torch.full((dim,), sigma), rtol=1e-4, atol=0)
    for spread in (1.0, 3.0):
        with torch.no_grad():
            shares.logits.normal_(std=spread, generator=generator(dim))
        found = shares(sigma)
        assert capacity(found) == pytest.approx(gaussian_capacity(dim, sigma), rel=2e-4)
        assert found.max() > 1.1 * found.min()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("sigma", [1e-6, 0.5, 100.0])
def test_no_coordinate_is_drowned_and_none_is_left_without_noise(sign: int, sigma: float) -> None:
    shares, d = SharedCapacity(1000), 1000
    with torch.no_grad():
        shares.logits.fill_(-1000.0 * sign)[0] = 1000.0 * sign
    even = gaussian_capacity(1, sigma)
    first, *rest = shares(sigma).tolist()
    bound = sigma_for(1, even * MOST_SHARE**sign)
    assert first == pytest.approx(bound, rel=0.05 + abs(even) / d * 8)
    assert 0 < first < math.inf
    assert capacity(torch.tensor(rest)) + capacity(torch.tensor([first])) == pytest.approx(d * even, rel=1e-4)


def test_sigma_of_a_capacity_does_not_overflow() -> None:
    nats = torch.tensor([1e-6, 1e-3, 1.0, 60.0], requires_grad=True)
    expected = [1 / math.sqrt(math.expm1(2 * c)) for c in nats.tolist()]
    found = sigma_carrying(nats)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=0)
    assert torch.isfinite(torch.autograd.grad(found.sum(), nats)[0]).all()


def test_less_noise_in_all_coordinates_is_not_to_be_had() -> None:
    """Climbing the information of a channel whose coordinates agree with the view to different degrees moves noise
    from the one that knows most to that which knows least; the sum stays."""
    shares, agreement = SharedCapacity(3), torch.tensor([0.99, 0.9, 0.5])
    optimizer = torch.optim.Adam(shares.parameters(), lr=0.05)
    information = []
    for _ in range(100):
        sigmas = shares(0.3)
        nats = -0.5 * torch.log1p(-agreement.square() / (1 + sigmas.square())).sum()
        information.append(nats.item())
        optimizer.zero_grad()
        (-nats).backward()
        optimizer.step()
    total = torch.log1p(shares(0.3) ** -2).sum() / 2
    (slope,) = torch.autograd.grad(total, shares.logits)
    assert slope.abs().max() < 1e-5, "of the capacity itself"
    found = shares(0.3).tolist()
    assert information[-1] > information[0] + 0.02
    assert found[0] < 0.3 < found[1] < found[2]
    assert capacity(shares(0.3)) == pytest.approx(gaussian_capacity(3, 0.3), rel=1e-5)


def test_learned_noise_has_its_law_and_follows_the_schedule_within_the_capacity() -> None:
    method, _ = built({"learned": True, "start": 2.0, "branches": "both"})
    with torch.no_grad():
        method.shares.logits.copy_(torch.tensor([1.0, 0.0, -1.0]))
    latent = torch.zeros(50_000, 3)
    for done, sigma in ((0.0, 2.0), (0.5, 1.25), (1.0, 0.5)):
        method.done = done
        for branch in (method.noisy, method.other):
            deviations = branch(latent, generator=generator()).std(0).detach()
            torch.testing.assert_close(deviations, method.shares(sigma).detach(), rtol=0.02, atol=0)
            assert capacity(deviations) == pytest.approx(gaussian_capacity(3, sigma), rel=0.02)
    assert method.learned_sigmas() == tuple(method.shares(0.5).tolist())
    plain, _ = built()
    assert plain.learned_sigmas() is None
    assert "shares.logits" not in plain.state_dict()
    at_first, _ = built({"learned": True})
    z = [m.noisy(latent[:9], generator=generator()) for m in (plain, at_first)]
    torch.testing.assert_close(z[0], z[1], rtol=1e-4, atol=0)


def test_noise_on_request_is_that_of_the_common_sigma() -> None:
    facts = DatasetFacts(name="x", n_train=512, n_test=64, height=8, width=8, channels=1)
    noise = {"kind": "gaussian", "sigma": 0.5, "learned": True}
    spec = TrainSpec.model_validate({"dataset": "x", "noise": noise}).filled(facts)
    resolved = resolve(spec, facts)[0]
    trained = resolved.model_copy(update={"learned_sigmas": (0.1,) * 16})
    clean = np.zeros((4000, 16), dtype=np.float32)
    prior = make_prior(spec)
    found = add_noise(clean, prior, trained, seed=3)
    np.testing.assert_array_equal(found, add_noise(clean, prior, resolved, seed=3))
    assert found.std() == pytest.approx(0.5, rel=0.02)


def test_all_devices_together_in_two_stages_leave_a_bundle_like_any_other(tmp_path: Path) -> None:
    """ONNX is compared with the model while it is stored, and left out where they differ."""
    dataset = load_builtin("digits", root=None)
    spec = TrainSpec.model_validate(
        {
            "dataset": "digits",
            "encoder": {"kind": "conv", "dim": 2, "width": 8},
            "method": {"kind": "infomax", "local": 1, "neighbors": 3, "first_dim": 4, "first_epochs": 1},
            "noise": {"kind": "gaussian", "sigma": 0.5, "layers": 0.2, "learned": True},
            "epochs": 2,
            "precision": "float32",
            "evaluation": "quick",
        }
    )
    outcome = pipeline.run(spec, dataset, out_dir=tmp_path)
    loaded = bundle.load(tmp_path)
    assert (tmp_path / bundle.ONNX).is_file()
    assert loaded.resolved.learned_sigmas == outcome.fitted.resolved.learned_sigmas
    assert capacity(torch.tensor(loaded.resolved.learned_sigmas)) == pytest.approx(
        gaussian_capacity(2, 0.5), rel=1e-4
    )
    certificate = outcome.report.certificate
    assert (certificate.sigma, certificate.capacity_nats) == (0.5, pytest.approx(gaussian_capacity(2, 0.5)))
    assert loaded.noisy.describe()["scale"] == pytest.approx(math.hypot(1, 0.5))
    assert "σ_i learned" in (tmp_path / bundle.CARD).read_text()
    assert not any(name.startswith(("shares", "local")) for name in loaded.model.state_dict())
