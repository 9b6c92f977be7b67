"""The parts of a training spec: frozen, closed (`extra="forbid"`), every number bounded.

Each part is one of several kinds, told apart by its field ``kind``. Units stand in the field's description.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nidim.spec.base import Part

CIFAR_STEM_UP_TO = 64
"""Pixels a side up to which the stem "auto" is that for CIFAR."""


# ---- encoder: image -> R^d before the normalisation -------------------------------------------------


class ConvEncoder(Part):
    """Three blocks of convolution, pooling, batch norm and leaky ReLU: the network of the paper."""

    kind: Literal["conv"] = "conv"
    dim: int = Field(16, ge=1, le=4096, description="d, the length of an embedding")
    width: int = Field(32, ge=4, le=512, description="channels of the first block; then twice and four times")


class Backbone(Part):
    """What every convolutional network of torchvision has."""

    dim: int = Field(64, ge=1, le=4096, description="d, the length of an embedding")
    stem: Literal["auto", "cifar", "imagenet"] = Field(
        "auto",
        description="cifar: without the first two halvings of the image (of a ResNet: 3×3, no pooling); imagenet: as "
        "published; auto: cifar up to 64 pixels",
    )


class ResNet(Backbone):
    """One whose layers have the names of a ResNet's."""


class ResNet18Encoder(ResNet):
    """ResNet-18 (He et al. 2016)."""

    kind: Literal["resnet18"] = "resnet18"


class ResNet34Encoder(ResNet):
    """ResNet-34 (He et al. 2016)."""

    kind: Literal["resnet34"] = "resnet34"


class ResNet50Encoder(ResNet):
    """ResNet-50 (He et al. 2016)."""

    kind: Literal["resnet50"] = "resnet50"


class MobileNetV3SmallEncoder(Backbone):
    """MobileNetV3-Small (Howard et al. 2019): the least arithmetic for an image, for training on a CPU."""

    kind: Literal["mobilenet_v3_small"] = "mobilenet_v3_small"


class EfficientNetB0Encoder(Backbone):
    """EfficientNet-B0 (Tan and Le 2019)."""

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"


class ConvNeXtTinyEncoder(Backbone):
    """ConvNeXt-T (Liu et al. 2022)."""

    kind: Literal["convnext_tiny"] = "convnext_tiny"


class ViTSmallEncoder(Part):
    """ViT-S (Dosovitskiy et al. 2021; the size of Touvron et al. 2021): 12 layers of 384 channels, 6 heads."""

    kind: Literal["vit_small"] = "vit_small"
    dim: int = Field(64, ge=1, le=4096, description="d, the length of an embedding")
    patch: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None,
        description="side of a patch, pixels, a divisor of image_size; none: the largest up to 16 that leaves 7 × 7 "
        "patches or more",
    )


Encoder = Annotated[
    ConvEncoder
    | ResNet18Encoder
    | ResNet34Encoder
    | ResNet50Encoder
    | MobileNetV3SmallEncoder
    | EfficientNetB0Encoder
    | ConvNeXtTinyEncoder
    | ViTSmallEncoder,
    Field(discriminator="kind"),
]

# ---- method: how views, noise, head and objective are wired ------------------------------------------


class InfoMaxMethod(Part):
    """Deep InfoMax: maximise I(f(X'); f(X) + Z) between an image and its augmentation."""

    kind: Literal["infomax"] = "infomax"
    neighbors: int = Field(
        0,
        ge=0,
        le=100,
        description="k: the second branch sees one of the k training images nearest in the embedding of a first stage; "
        "0: the image itself, one stage",
    )
    first_dim: int = Field(64, ge=1, le=4096, description="d of the first stage, where there is one")
    first_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None,
        description="epochs of the first stage; none: the default of one stage, at most half of those of the second",
    )
    local: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of the local bound beside the global one: I(cell(X'); f(X) + Z), mean over the cells of a "
        "feature map of the view, 8 × 8 at most, by a separable critic of its own; mi_nats stays the global bound",
    )


class SimCLRMethod(Part):
    """Two augmented views, noise on one, cosine similarities over a temperature (NT-Xent)."""

    kind: Literal["simclr"] = "simclr"
    temperature: float = Field(0.5, gt=0, le=100, description="τ of the NT-Xent loss")


class VICRegMethod(Part):
    """Two views pulled together, each coordinate of the projection kept alive and apart from the others."""

    kind: Literal["vicreg"] = "vicreg"
    invariance: float = Field(25.0, gt=0, le=1e4, description="weight of the distance between the views")
    variance: float = Field(25.0, ge=0, le=1e4, description="weight of the hinge on standard deviations")
    covariance: float = Field(1.0, ge=0, le=1e4, description="weight of the covariances")


class BarlowTwinsMethod(Part):
    """The correlations between two views' projections are pulled to the identity."""

    kind: Literal["barlow_twins"] = "barlow_twins"
    off_diagonal: float = Field(0.005, ge=0, le=100, description="λ, weight of what is off the diagonal")


class BYOLMethod(Part):
    """Each view predicts the other as a slowly following copy of the encoder sees it."""

    kind: Literal["byol"] = "byol"
    momentum: float = Field(
        0.99, ge=0, lt=1, description="share that the copy keeps in a step, at the beginning"
    )
    hidden: int = Field(256, ge=1, le=8192, description="width of the predictor's hidden layer")


class SimSiamMethod(Part):
    """Each view predicts the other; the predicted one gets no gradient."""

    kind: Literal["simsiam"] = "simsiam"
    hidden: int = Field(64, ge=1, le=8192, description="width of the predictor's hidden layer")


class LeJEPAMethod(Part):
    """Two views pulled together, their law pulled to N(0, I) by SIGReg: a rival."""

    kind: Literal["lejepa"] = "lejepa"
    weight: float = Field(0.05, gt=0, lt=1, description="λ, the share of SIGReg in the loss")
    slices: int = Field(256, ge=1, le=4096, description="random directions a step")


Method = Annotated[
    InfoMaxMethod
    | SimCLRMethod
    | VICRegMethod
    | BarlowTwinsMethod
    | BYOLMethod
    | SimSiamMethod
    | LeJEPAMethod,
    Field(discriminator="kind"),
]

# ---- objective: lower bounds on mutual information ----------------------------------------------------

WHOLE_BATCH = 4096
"""Images of a batch up to which InfoNCE has all its scores in memory; beyond, a block of rows at a time."""
BLOCK_OF_SCORES = 1 << 24
"""Values of such a block."""


class InfoNCEObjective(Part):
    """log n + mean_i (T_ii − logsumexp_j T_ij); never above log n."""

    kind: Literal["infonce"] = "infonce"


class DonskerVaradhanObjective(Part):
    """mean T_ii − log mean exp T over the off-diagonal, its gradient corrected by a moving average."""

    kind: Literal["donsker_varadhan"] = "donsker_varadhan"
    decay: float = Field(0.99, ge=0, lt=1, description="decay of the average of the partition; 0: no memory")


class NWJObjective(Part):
    """mean T_ii − mean off-diagonal exp(T − 1)."""

    kind: Literal["nwj"] = "nwj"


class JensenShannonObjective(Part):
    """The gradient of the Jensen–Shannon divergence, the value of NWJ."""

    kind: Literal["jsd"] = "jsd"


class SMILEObjective(Part):
    """Donsker–Varadhan with a clipped partition as the value, the Jensen–Shannon gradient; may exceed the truth."""

    kind: Literal["smile"] = "smile"
    clip: float = Field(
        5.0, gt=0, le=50, description="τ: exp T of independent pairs counts within [e^−τ, e^τ]"
    )


class NishiyamaObjective(Part):
    """The least KL of laws with the means and variances of T that are seen."""

    kind: Literal["nishiyama"] = "nishiyama"


Objective = Annotated[
    InfoNCEObjective
    | DonskerVaradhanObjective
    | NWJObjective
    | JensenShannonObjective
    | SMILEObjective
    | NishiyamaObjective,
    Field(discriminator="kind"),
]

# ---- critic: scores of pairs ---------------------------------------------------------------------------


class SeparableCritic(Part):
    """T_ij = g(a_i)ᵀ h(b_j) with two small MLPs: one matrix product for all pairs."""

    kind: Literal["separable"] = "separable"
    hidden: int = Field(256, ge=1, le=8192, description="width of the two hidden layers")
    dim: int = Field(64, ge=1, le=8192, description="length of g(a) and h(b)")


class BilinearCritic(Part):
    """T_ij = a_iᵀ W b_j."""

    kind: Literal["bilinear"] = "bilinear"


class ConcatCritic(Part):
    """T_ij = MLP([a_i, b_j]): the critic of the paper; n² evaluations."""

    kind: Literal["concat"] = "concat"
    hidden: int = Field(256, ge=1, le=8192, description="width of the two hidden layers")


class GaussianChannelCritic(Part):
    """T_ij = −‖a_i − b_j‖² / 2σ²: the exact critic of the channel that the noise makes; no parameters."""

    kind: Literal["gaussian_channel"] = "gaussian_channel"


Critic = Annotated[
    SeparableCritic | BilinearCritic | ConcatCritic | GaussianChannelCritic, Field(discriminator="kind")
]

# ---- head ------------------------------------------------------------------------------------------------


class NoHead(Part):
    """The objective sees the noisy embedding itself."""

    kind: Literal["none"] = "none"


class MLPHead(Part):
    """A projection after the noise; the bound stays valid by data processing."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(256, ge=1, le=8192, description="width of the hidden layer")
    dim: int = Field(128, ge=1, le=8192, description="length of the projection")
    batchnorm: bool = Field(False, description="batch norm after the hidden layer")


Head = Annotated[NoHead | MLPHead, Field(discriminator="kind")]

# ---- optimiser ---------------------------------------------------------------------------------------------------


class _Optimizer(Part):
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="one_cycle: a quarter up, then cosine down; cosine: down only"
    )
    weight_decay: float = Field(1e-4, ge=0, le=10, description="weight decay, not on biases and norms")


class AdamWOptimizer(_Optimizer):
    """AdamW (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(4e-3, gt=0, le=10, description="peak learning rate")


class SGDOptimizer(_Optimizer):
    """SGD with Nesterov momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.06, gt=0, le=100, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum")


Optimizer = Annotated[AdamWOptimizer | SGDOptimizer, Field(discriminator="kind")]
