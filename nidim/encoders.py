"""Networks: images (n, c, h, w) in [0, 1] -> raw outputs (n, d), before the normalisation.

    conv        three blocks of conv 3×3, max-pool 2, batch norm, leaky ReLU, then 128 and d: arXiv 2410.06993
    resnet18, resnet34, resnet50
                torchvision's, with the CIFAR stem (3×3, no pooling) up to 64 pixels, else the ImageNet stem
    mobilenet_v3_small, efficientnet_b0, convnext_tiny
                torchvision's, up to 64 pixels without the first two halvings
    vit_small   torchvision's vision transformer in the size of DeiT-S

None has weights to begin with, and none dropout or stochastic depth: noise comes where a spec says so.

:class:`EncoderModel` is what is trained, stored and served: network, constraint, and the map to the prior's scale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nidim._torchvision import import_torchvision
from nidim.hardware import Dtype, autocast
from nidim.layers import LEAK
from nidim.normalize import UnitInterval, UnitMoments
from nidim.spec import parts
from nidim.spec.maps import patch_of, stem_of
from nidim.world import ALONE, World

AfterBlock = Callable[[int, Tensor], Tensor]
"""(number of the block, its feature map (n, c, h, w)) -> the map that the next block sees."""
_LARGEST_MAP = 4  # of the conv net, before its linear layers: larger images are averaged down to it


class ConvNet(nn.Module):
    """The paper's network for images of any side and channel count; pooling stops at one pixel."""

    def __init__(self, *, channels: int, image_size: int, width: int, dim: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        side, before = image_size, channels
        for after in (width, 2 * width, 4 * width):
            blocks.append(nn.Conv2d(before, after, 3, padding=1))
            if side > 1:
                blocks.append(nn.MaxPool2d(2))
                side //= 2
            blocks += [nn.BatchNorm2d(after), nn.LeakyReLU(LEAK)]
            before = after
        if side > _LARGEST_MAP:
            blocks.append(nn.AdaptiveAvgPool2d(_LARGEST_MAP))
            side = _LARGEST_MAP
        self.features = nn.Sequential(*blocks)
        self.output = nn.Sequential(
            nn.Flatten(), nn.Linear(before * side**2, 128), nn.LeakyReLU(LEAK), nn.Linear(128, dim)
        )

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return self.output(self.features(images))


def resnet(
    kind: Literal["resnet18", "resnet34", "resnet50"],
    *,
    channels: int,
    dim: int,
    stem: Literal["cifar", "imagenet"],
) -> nn.Module:
    """A torchvision ResNet without weights, its last layer of length ``dim``, its stem as asked for."""
    net = getattr(import_torchvision().models, kind)(weights=None, num_classes=dim)
    if stem == "cifar":
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return net


def backbone(
    kind: Literal["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"],
    *,
    channels: int,
    dim: int,
    stem: Literal["cifar", "imagenet"],
) -> nn.Module:
    """Another convolutional network of torchvision, likewise: of the stem "cifar" the first two halvings are none."""
    models = import_torchvision().models
    if kind == "mobilenet_v3_small":
        net = models.mobilenet_v3_small(weights=None, num_classes=dim, dropout=0.0)
        first, second = net.features[0][0], net.features[1].block[0][0]
    elif kind == "efficientnet_b0":
        net = models.efficientnet_b0(weights=None, num_classes=dim, dropout=0.0, stochastic_depth_prob=0.0)
        first, second = net.features[0][0], net.features[2][0].block[1][0]
    else:
        net = models.convnext_tiny(weights=None, num_classes=dim, stochastic_depth_prob=0.0)
        first = second = net.features[0][0]  # patches of 4 pixels
        if stem == "cifar":
            first = nn.Conv2d(channels, first.out_channels, 3, padding=1)
    if stem == "cifar":
        first.stride = second.stride = (1, 1)
    if first.in_channels != channels:
        how = {"kernel_size": first.kernel_size, "stride": first.stride, "padding": first.padding}
        first = nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **how)
    net.features[0][0] = first
    return net


def vision_transformer(*, image_size: int, patch: int, channels: int, dim: int) -> nn.Module:
    """ViT-S without weights, which reads the embedding from the class token."""
    net = import_torchvision().models.VisionTransformer(
        image_size=image_size, patch_size=patch, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536,
        num_classes=dim,
    )  # fmt: skip
    if channels != 3:
        net.conv_proj = nn.Conv2d(channels, 384, patch, patch)
        nn.init.trunc_normal_(net.conv_proj.weight, std=(channels * patch**2) ** -0.5)
        nn.init.zeros_(net.conv_proj.bias)
    # torchvision begins with zeros, as a classifier may: embeddings that are all the same have no unit variance
    nn.init.trunc_normal_(net.heads.head.weight, std=0.02)
    return net


def build_network(encoder: parts.Encoder, *, channels: int, image_size: int) -> nn.Module:
    """The network of a spec."""
    dim = encoder.dim
    if encoder.kind == "conv":
        return ConvNet(channels=channels, image_size=image_size, width=encoder.width, dim=dim)
    if encoder.kind == "vit_small":
        patch = patch_of(encoder, image_size)
        return vision_transformer(image_size=image_size, patch=patch, channels=channels, dim=dim)
    stem = stem_of(encoder, image_size)
    if isinstance(encoder, parts.ResNet):
        return resnet(encoder.kind, channels=channels, dim=dim, stem=stem)
    return backbone(encoder.kind, channels=channels, dim=dim, stem=stem)


_FEATURES = {"MobileNetV3": (1, 3, 8, 12), "EfficientNet": (2, 3, 5, 8), "ConvNeXt": (1, 3, 5, 7)}
"""The layers after which each block ends, by the class of the network."""


def blocks(network: nn.Module) -> list[nn.Module]:
    """The modules that end the blocks of a network, in the order of ``nidim.spec.maps.feature_maps``."""
    if isinstance(network, ConvNet):
        return [module for module in network.features if isinstance(module, nn.LeakyReLU)]
    kind = type(network).__name__
    if kind == "VisionTransformer":
        return []
    if kind in _FEATURES:
        return [network.get_submodule(f"features.{number}") for number in _FEATURES[kind]]
    return [network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)]


@contextlib.contextmanager
def after_blocks(network: nn.Module, change: AfterBlock) -> Iterator[None]:
    """Within the context ``change`` is applied to what each block gives; after it the network is as it was."""

    def hook(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        return lambda _block, _given, features: change(number, features)

    handles = [block.register_forward_hook(hook(k)) for k, block in enumerate(blocks(network))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class EncoderModel(nn.Module):
    """Image -> embedding in the prior's scale.

    ``network`` gives raw outputs; ``constraint`` makes the latent, to which noise is added in training;
    ``warp`` is the map from the latent to the served embedding, in the prior's scale. ``precision`` is that
    of the network alone: moments, noise, critic and objective are always float32, since the log-sum-exp of
    scores in bfloat16 loses the very differences that the bound measures.

    ``world``: over how many processes a training is spread. Images are a rank's rows, n; outputs are those of all
    ranks, m, and the same on each.
    """

    def __init__(self, network: nn.Module, constraint: UnitMoments | UnitInterval, warp: nn.Module):
        super().__init__()
        self.network = network
        self.constraint = constraint
        self.warp = warp
        self.precision: Dtype | None = "float32"
        self.world: World = ALONE

    def latent(
        self, images: Float[Tensor, "n c h w"], *, track: bool = True, after_block: AfterBlock | None = None
    ) -> Float[Tensor, "m d"]:
        """The normalised embedding f(x), float32. ``track``: the clean branch, which the moments follow.

        ``after_block`` sees, and may change, what each block of the network gives in this pass.
        """
        if after_block is None:
            return self.constraint(self.raw(images), track=track)
        with after_blocks(self.network, after_block):
            return self.constraint(self.raw(images), track=track)

    def latent_and_map(
        self, images: Float[Tensor, "n c h w"], *, block: int, track: bool = True
    ) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m k s s"]]:
        """The latents, and the feature map after ``block`` from the same pass, in the precision of the network."""
        found: list[Tensor] = []

        def keep(number: int, features: Tensor) -> Tensor:
            if number == block:
                found.append(features)
            return features

        latent = self.latent(images, track=track, after_block=keep)
        return latent, self.world.gather(found[0])

    def raw(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "m d"]:
        """The outputs of the network before the constraint, float32."""
        with autocast(images.device.type, self.precision):
            return self.world.gather(self.network(images).float())

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The clean embedding of images in [0, 1], in the prior's scale."""
        embedding: Tensor = self.warp(self.latent(images))
        return embedding

    def embed_uint8(self, images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
        """The clean embedding of uint8 images; scaling to [0, 1] inside."""
        return self(scale(images))


def scale(images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255
