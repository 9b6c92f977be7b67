"""Critics, normalisation, encoders and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nidim.augment import augment, blur, rotate_hue, to_gray, warp
from nidim.build import build_encoder, build_method
from nidim.capacity import resolve
from nidim.critics import build_critic
from nidim.encoders import scale
from nidim.methods import barlow_twins, nt_xent, vicreg
from nidim.noise import draw
from nidim.normalize import UnitInterval, UnitMoments
from nidim.priors import make_prior
from nidim.spec import DatasetFacts, TrainSpec, parts, views
from nidim.spec.maps import patch_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


OWN_LOSS = ("simclr", "vicreg", "barlow_twins", "byol", "simsiam", "lejepa")


def built(size: int = 8, channels: int = 1, **values: object):
    facts = DatasetFacts(name="x", n_train=512, n_test=64, height=size, width=size, channels=channels)
    spec = TrainSpec.model_validate({"dataset": "x", **values}).filled(facts)
    resolved = resolve(spec, facts)[0]
    return spec, resolved, build_encoder(spec, resolved)


@pytest.mark.parametrize(
    "critic",
    [parts.SeparableCritic(), parts.BilinearCritic(), parts.ConcatCritic(), parts.GaussianChannelCritic()],
)
def test_a_critic_scores_every_pair_on_its_own(critic: parts.Critic) -> None:
    torch.manual_seed(0)
    net = build_critic(critic, 3, sigma=0.5)
    a, b = torch.randn(4, 3), torch.randn(5, 3)
    whole = net(a, b)
    assert whole.shape == (4, 5)
    torch.testing.assert_close(net(a[2:3], b[1:2])[0, 0], whole[2, 1], rtol=1e-4, atol=1e-5)


def test_the_concatenated_critic_is_an_mlp_of_the_pair() -> None:
    net = build_critic(parts.ConcatCritic(hidden=7), 3, sigma=None)
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    joined = torch.cat([net.anchor.weight, net.candidate.weight], dim=1)
    first = torch.cat([a[0], b[1]]) @ joined.T + net.anchor.bias
    torch.testing.assert_close(net(a, b)[0, 1], net.rest(first)[0])


def test_the_channel_critic_needs_sigma() -> None:
    with pytest.raises(ValueError, match="gaussian noise"):
        build_critic(parts.GaussianChannelCritic(), 3, sigma=None)


def test_each_branch_has_its_own_unit_moments_and_only_the_clean_one_is_tracked() -> None:
    norm = UnitMoments(3).train()
    view = norm(5 + 2 * torch.randn(1000, 3, generator=generator()), track=False)
    assert norm.mean.abs().max() == 0
    clean = norm(-1 + 3 * torch.randn(1000, 3, generator=generator(1)))
    for branch in (view, clean):
        torch.testing.assert_close(branch.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(branch.var(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert norm.mean.max() < 0
    norm.set_moments(torch.full((3,), 2.0), torch.full((3,), 4.0))
    torch.testing.assert_close(norm.eval()(torch.full((1, 3), 4.0)), torch.ones(1, 3), atol=1e-4, rtol=0)


def test_the_sigmoid_keeps_the_support() -> None:
    out = UnitInterval()(100 * torch.randn(50, 2))
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("size", [1, 2, 7, 8, 28, 33, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_conv_net_takes_any_size(size: int, channels: int) -> None:
    _, _, model = built(size, channels, image_size=size, encoder={"kind": "conv", "dim": 5})
    out = model.eval()(torch.rand(2, channels, size, size))
    assert out.shape == (2, 5)


@pytest.mark.parametrize(
    ("size", "stem", "stride"),
    [(32, "auto", 1), (64, "auto", 1), (96, "auto", 2), (96, "cifar", 1), (32, "imagenet", 2)],
)
def test_resnet_stems(size: int, stem: str, stride: int) -> None:
    _, _, model = built(size, 1, image_size=size, encoder={"kind": "resnet18", "dim": 4, "stem": stem})
    assert model.network.conv1.stride == (stride, stride)
    assert model.eval()(torch.rand(1, 1, size, size)).shape == (1, 4)


def test_resnet50_is_built() -> None:
    _, _, model = built(32, 3, encoder={"kind": "resnet50", "dim": 4})
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize(("size", "patch"), [(8, 1), (28, 4), (32, 4), (31, 1), (96, 12), (224, 16)])
def test_patches_tile_the_image_into_seven_a_side_or_more(size: int, patch: int) -> None:
    assert patch_of(parts.ViTSmallEncoder(), size) == patch
    assert patch_of(parts.ViTSmallEncoder(patch=2), size) == 2


@pytest.mark.parametrize("kind", ["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_small"])
def test_a_network_begins_with_outputs_that_differ_and_trains_without_chance(kind: str) -> None:
    """The class token of a new vision transformer is read by weights that are not zero, and nothing is dropped."""
    _, _, model = built(16, 3, encoder={"kind": kind, "dim": 4})
    images = torch.rand(4, 3, 16, 16, generator=generator())
    first, second = (model.network.train()(images) for _ in range(2))
    assert torch.equal(first, second)
    assert first.std(0).min() > 1e-6


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "logistic", "gaussian_mixture", "sphere"])
def test_the_served_embedding_is_the_latent_in_the_scale_of_the_prior(kind: str) -> None:
    spec, _, model = built(prior={"kind": kind}, encoder={"kind": "conv", "dim": 2})
    images = torch.rand(64, 1, 8, 8)
    with torch.no_grad():
        latent, served = model.latent(images), model(images)
    expected = make_prior(spec).from_normal_scores(latent.numpy()) if kind != "gaussian" else latent.numpy()
    np.testing.assert_allclose(served.numpy(), expected, atol=1e-4)


def test_scale() -> None:
    images = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(scale(images).flatten(), torch.tensor([0, 0.2, 1.0]))


@pytest.mark.parametrize(
    "preset",
    [
        views.DigitsAugmentation(),
        views.Color32Augmentation(),
        views.ColorAugmentation(),
        views.NoiseAugmentation(),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 8, 33])
def test_views_keep_shape_differ_per_image_and_repeat_with_the_seed(
    preset: views.Augmentation, channels: int, size: int
) -> None:
    images = torch.rand(1, channels, size, size, generator=generator()).expand(16, -1, -1, -1)
    views = augment(images, preset, generator=generator(3))
    assert views.shape == images.shape
    assert torch.isfinite(views).all()
    torch.testing.assert_close(views, augment(images, preset, generator=generator(3)))
    if size > 1:
        assert (views[0] - views[1:]).flatten(1).abs().amax(1).min() > 1e-3


def test_augmentation_that_is_off_changes_nothing() -> None:
    images = torch.rand(4, 3, 9, 9)
    assert augment(images, views.NoiseAugmentation(pixel_noise=0), generator=generator()) is images


def test_warp_by_the_identity_and_by_a_flip() -> None:
    images = torch.rand(2, 1, 6, 6)
    identity = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).expand(2, 2, 3)
    torch.testing.assert_close(warp(images, identity), images)
    flip = torch.tensor([[-1.0, 0, 0], [0, 1.0, 0]]).expand(2, 2, 3)
    torch.testing.assert_close(warp(images, flip), images.flip(3))


def test_hue_keeps_grays_and_comes_round() -> None:
    gray = to_gray(torch.rand(3, 3, 4, 4))
    turns = torch.full((3, 1, 1, 1), 0.3)
    torch.testing.assert_close(rotate_hue(gray, turns), gray)
    colours = torch.rand(3, 3, 4, 4)
    torch.testing.assert_close(rotate_hue(colours, torch.ones(3, 1, 1, 1)), colours)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    green = rotate_hue(red, torch.full((1, 1, 1, 1), 1 / 3))
    torch.testing.assert_close(green.flatten(), torch.tensor([0, 1.0, 0]), atol=1e-6, rtol=0)


def test_blur_keeps_the_mean_and_smooths_each_image_by_its_own_sigma() -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator())
    blurred = blur(images, torch.tensor([0.1, 2.0]).view(2, 1, 1, 1), reach=4)
    torch.testing.assert_close(blurred[0], images[0], atol=1e-4, rtol=0)
    assert blurred[1].var() < 0.2 * images[1].var()
    torch.testing.assert_close(blurred[1].mean(), images[1].mean(), atol=0.02, rtol=0)


def test_noise_has_its_law_and_depends_on_the_generator_alone() -> None:
    latent = torch.zeros(20_000, 2)
    for values, deviation in (
        ({"kind": "gaussian", "sigma": 0.5}, 0.5),
        ({"kind": "uniform", "epsilon": 0.3}, 0.3 / 3**0.5),
        ({"kind": "none"}, 0.0),
    ):
        _, resolved, _ = built(noise=values)
        z = draw(latent, resolved=resolved, generator=generator())
        assert float(z.std()) == pytest.approx(deviation, rel=0.02)
        torch.testing.assert_close(z, draw(latent, resolved=resolved, generator=generator()))


def test_noise_may_be_annealed_and_may_stand_on_both_branches() -> None:
    spec, resolved, _ = built(noise={"kind": "gaussian", "sigma": 0.5, "start": 2.0, "branches": "both"})
    method = build_method(spec, resolved)
    latent = torch.zeros(20_000, 2)
    for done, sigma in ((0.0, 2.0), (0.5, 1.25), (1.0, 0.5)):
        method.done = done
        for branch in (method.noisy, method.other):
            assert float(branch(latent, generator=generator()).std()) == pytest.approx(sigma, rel=0.02)
    spec, resolved, _ = built(noise={"kind": "gaussian", "sigma": 0.5})
    assert build_method(spec, resolved).other(latent, generator=generator()) is latent


def test_nt_xent_equals_a_slow_reference() -> None:
    a, b = torch.randn(5, 3, generator=generator()), torch.randn(5, 3, generator=generator(1))
    views = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    total = 0.0
    for i in range(10):
        others = [j for j in range(10) if j != i]
        logits = torch.stack([views[i] @ views[j] / 0.5 for j in others])
        total += float(torch.logsumexp(logits, 0) - logits[others.index((i + 5) % 10)])
    assert float(nt_xent(a, b, temperature=0.5)) == pytest.approx(total / 10, rel=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        *({"method": {"kind": kind}} for kind in OWN_LOSS),
        {"objective": {"kind": "donsker_varadhan"}, "critic": {"kind": "concat"}},
        {"objective": {"kind": "nwj"}, "critic": {"kind": "bilinear"}},
        *({"objective": {"kind": kind}} for kind in ("jsd", "smile", "nishiyama")),
        {"critic": {"kind": "gaussian_channel"}},
        {"head": {"kind": "mlp"}},
        {"noise": {"kind": "uniform", "epsilon": 0.2}},
        {"prior": {"kind": "uniform"}},
        {"method": {"kind": "infomax", "local": 1}},
        {"noise": {"kind": "gaussian", "layers": 0.2, "learned": True}},
        {"noise": {"kind": "gaussian", "layers": 0.2, "learned": True}, "method": {"kind": "byol"}},
    ],
)
def test_gradient_reaches_every_parameter(values: dict) -> None:
    spec, resolved, model = built(**values)
    method = build_method(spec, resolved)
    method.begin(model)
    result = method(model.train(), torch.rand(16, 1, 8, 8), generator=generator())
    (-result.surrogate).backward()
    assert torch.isfinite(result.mi_nats)
    for name, parameter in [*model.named_parameters(), *method.named_parameters()]:
        assert (parameter.grad is not None) == (not name.startswith("target")), name


def test_vicreg_equals_a_slow_reference() -> None:
    a, b = torch.randn(6, 3, generator=generator()), 0.5 * torch.randn(6, 3, generator=generator(1))
    weights = parts.VICRegMethod(invariance=2, variance=3, covariance=5)
    hinge = covariances = 0.0
    for z in (a, b):
        covariance = torch.cov(z.T)
        hinge += sum(max(0.0, 1 - float(torch.sqrt(covariance[i, i] + 1e-4))) for i in range(3)) / 3
        covariances += sum(float(covariance[i, j]) ** 2 for i in range(3) for j in range(3) if i != j) / 3
    expected = 2 * float(((a - b) ** 2).mean()) + 3 / 2 * hinge + 5 * covariances
    assert float(vicreg(a, b, weights)) == pytest.approx(expected, rel=1e-5)


def test_barlow_twins_equals_a_slow_reference() -> None:
    a, b = torch.randn(50, 3, generator=generator()), torch.randn(50, 3, generator=generator(1))
    correlation = torch.corrcoef(torch.cat([a, b], 1).T)[:3, 3:]
    expected = sum(
        float((1 - correlation[i, i]) ** 2) if i == j else 0.1 * float(correlation[i, j] ** 2)
        for i in range(3)
        for j in range(3)
    )
    assert float(barlow_twins(a, b, off_diagonal=0.1)) == pytest.approx(expected, rel=1e-3)
    assert float(barlow_twins(a, a, off_diagonal=0.0)) == pytest.approx(0, abs=1e-6)


def test_byols_target_follows_without_gradient_and_stands_still_at_the_end() -> None:
    spec, resolved, model = built(method={"kind": "byol", "momentum": 0.9})
    method = build_method(spec, resolved)
    method.begin(model)
    before = [p.clone() for p in method.target.parameters()]
    for p, q in zip(method.target.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not p.requires_grad
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    method.after_step(model, 1.0)
    assert all(torch.equal(p, q) for p, q in zip(method.target.parameters(), before, strict=True))
    method.after_step(model, 0.0)
    for p, q in zip(method.target.parameters(), before, strict=True):
        torch.testing.assert_close(p, q + 0.1)
    assert {name.split(".")[0] for name in method.state_dict()} == {
        "head",
        "predictor",
        "target",
        "target_head",
    }


@pytest.mark.parametrize("kind", OWN_LOSS)
def test_noise_changes_what_a_method_climbs_and_nothing_else(kind: str) -> None:
    def step(sigma: float) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        spec, resolved, model = built(method={"kind": kind}, noise={"kind": "gaussian", "sigma": sigma})
        method = build_method(spec, resolved)
        method.begin(model)
        result = method(model.train(), torch.rand(64, 1, 8, 8, generator=generator()), generator=generator())
        return float(result.mi_nats), result.clean

    (little, clean), (much, same) = step(1e-3), step(5.0)
    assert torch.equal(clean, same)
    assert little > much + 0.1
