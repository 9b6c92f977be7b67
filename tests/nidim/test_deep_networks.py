"""Deep networks, trained for a few steps, stored and loaded: a ResNet by every stem, with every count of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nidim import bundle
from nidim._torchvision import import_torchvision
from nidim.capacity import resolve
from nidim.embedding import embed
from nidim.encoders import resnet
from nidim.onnx_export import PARITY, parity
from nidim.priors import make_prior
from nidim.spec import DatasetFacts, TrainSpec
from nidim.train import Fitted, fit

SIDES = {"cifar": 8, "imagenet": 32}
"""The smallest that leave the last block a pixel or more: a CIFAR stem halves three times, an ImageNet one five."""
CASES = [
    *(("resnet18", stem, channels) for stem in SIDES for channels in (1, 3)),
    ("resnet50", "cifar", 3),
    ("mobilenet_v3_small", "cifar", 3),
    ("efficientnet_b0", "cifar", 1),
    ("convnext_tiny", "cifar", 3),
    ("vit_small", None, 1),
]
EXPORTED = [("resnet50", "cifar", 3), ("vit_small", None, 1)]
"""A network of convolutions and one of attention: the exporter takes longer than all the rest."""
DIM, N = 4, 64

pytestmark = pytest.mark.slow


def trained(kind: str, stem: str | None, channels: int, images: np.ndarray) -> tuple[Fitted, TrainSpec]:
    side = images.shape[1]
    facts = DatasetFacts(name="x", n_train=N, n_test=N, height=side, width=side, channels=channels)
    spec = TrainSpec.model_validate(
        {
            "dataset": "x",
            "image_size": side,
            "encoder": {"kind": kind, "dim": DIM, **({"stem": stem} if stem else {"patch": side // 2})},
            "epochs": 2,
            "batch_size": N,
            "precision": "float32",
        }
    ).filled(facts)
    return fit(spec, resolve(spec, facts)[0], images, heldout=images), spec


def patches(side: int, channels: int) -> np.ndarray:
    """Images (N, side, side, channels) of different shades with noise on them.

    Noise alone looks the same to a deep network up to the digits in which two runtimes differ.
    """
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 192, (N, 2, 2, channels)).repeat(side // 2, 1).repeat(side // 2, 2)
    return (shades + rng.integers(0, 64, (N, side, side, channels))).astype(np.uint8)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bottleneck where ResNet-50 has three to six, two of a transformer's twelve layers.

    Every kind of layer and every width is there, for a third of the seconds.
    """
    models = import_torchvision().models

    def of_one(*, weights: None, **options: Any) -> nn.Module:
        assert weights is None
        return models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], **options)

    monkeypatch.setattr(models, "resnet50", of_one)
    transformer = models.VisionTransformer
    monkeypatch.setattr(
        models, "VisionTransformer", lambda **given: transformer(**{**given, "num_layers": 2})
    )


def test_a_resnet50_has_fifty_layers() -> None:
    network = resnet("resnet50", channels=3, dim=DIM, stem="cifar").eval()
    weighted = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len([name for name in weighted if "downsample" not in name]) == 50
    with torch.no_grad():
        assert network(torch.rand(2, 3, 8, 8)).shape == (2, DIM)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(("kind", "stem", "channels"), CASES)
def test_a_network_is_trained_stored_and_loaded(
    kind: str, stem: str | None, channels: int, tmp_path: Path
) -> None:
    side = SIDES[stem or "cifar"]
    images = patches(side, channels)
    fitted, spec = trained(kind, stem, channels, images)
    assert fitted.finished
    assert fitted.mi_nats is not None
    assert all(torch.isfinite(value).all() for value in fitted.model.state_dict().values())
    z = embed(fitted.model, images)
    assert z.shape == (N, DIM)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z.var(0), 1, atol=1e-2)
    exported = (kind, stem, channels) in EXPORTED
    bundle.save(
        tmp_path,
        model=fitted.model,
        prior=make_prior(spec),
        spec=spec,
        resolved=fitted.resolved,
        report={},
        page="",
        card="",
        provenance={},
        onnx=exported,
    )
    loaded = bundle.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed(images), z)
    assert loaded.spec.encoder == spec.encoder
    assert (tmp_path / bundle.ONNX).is_file() == exported
    if exported:
        assert parity(loaded.model, tmp_path / bundle.ONNX, torch.from_numpy(images[:9])) <= PARITY
