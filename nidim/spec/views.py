"""How a view is made from an image: the field ``augmentation`` of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nidim.spec.base import Part

Rotate = Annotated[float, Field(ge=0, le=3.2, description="largest rotation, radians")]
Scale = Annotated[float, Field(ge=0, lt=1, description="largest relative change of size")]
Shear = Annotated[float, Field(ge=0, le=2, description="largest shear, tangent")]
Shift = Annotated[float, Field(ge=0, le=1, description="largest shift, in halves of the image")]
CropMin = Annotated[float, Field(gt=0, le=1, description="smallest area of a random resized crop")]
FlipP = Annotated[float, Field(ge=0, le=1, description="probability of a horizontal flip")]
Elastic = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="standard deviation of an elastic displacement of every pixel, in halves of the image",
    ),
]
ElasticScale = Annotated[
    float, Field(ge=0.05, le=2, description="over which that displacement is smooth, in halves of the image")
]
Morphology = Annotated[
    float, Field(ge=0, le=1, description="largest degree of a grayscale dilation or erosion by 3 × 3 pixels")
]
Brightness = Annotated[float, Field(ge=0, le=1, description="strength of the brightness jitter")]
Contrast = Annotated[float, Field(ge=0, le=1, description="strength of the contrast jitter")]
Saturation = Annotated[float, Field(ge=0, le=1, description="strength of the saturation jitter")]
Hue = Annotated[float, Field(ge=0, le=0.5, description="strength of the hue jitter, turns")]
JitterP = Annotated[float, Field(ge=0, le=1, description="probability of any colour jitter")]
GrayscaleP = Annotated[float, Field(ge=0, le=1, description="probability of losing the colours")]
BlurP = Annotated[float, Field(ge=0, le=1, description="probability of a Gaussian blur")]
BlurSigma = Annotated[float, Field(ge=0, le=8, description="largest blur, pixels")]
PixelNoise = Annotated[
    float, Field(ge=0, le=2, description="standard deviation of pixel noise, range [0, 1]")
]


class _Augmentation(Part):
    """Strengths of the operations, each drawn anew for every image. 0 (or 1 for crop_min) switches one off."""

    rotate: Rotate = 0.0
    scale: Scale = 0.0
    shear: Shear = 0.0
    shift: Shift = 0.0
    crop_min: CropMin = 1.0
    flip_p: FlipP = 0.0
    elastic: Elastic = 0.0
    elastic_scale: ElasticScale = 0.3
    morphology: Morphology = 0.0
    brightness: Brightness = 0.0
    contrast: Contrast = 0.0
    saturation: Saturation = 0.0
    hue: Hue = 0.0
    jitter_p: JitterP = 0.0
    grayscale_p: GrayscaleP = 0.0
    blur_p: BlurP = 0.0
    blur_sigma: BlurSigma = 0.0
    pixel_noise: PixelNoise = 0.0


class DigitsAugmentation(_Augmentation):
    """Affine maps and pixel noise, no flips: for handwriting and other gray shapes."""

    kind: Literal["digits"] = "digits"
    rotate: Rotate = 0.35
    scale: Scale = 0.2
    shear: Shear = 0.3
    shift: Shift = 0.2
    pixel_noise: PixelNoise = 0.1


class HandwritingAugmentation(DigitsAugmentation):
    """As digits, with strokes bent and made thicker or thinner: for strokes of two pixels and more."""

    kind: Literal["handwriting"] = "handwriting"  # type: ignore[assignment]
    elastic: Elastic = 0.06
    morphology: Morphology = 0.5


class Color32Augmentation(_Augmentation):
    """Crop, flip, colour jitter, grayscale: for small colour images such as CIFAR."""

    kind: Literal["color32"] = "color32"
    crop_min: CropMin = 0.2
    flip_p: FlipP = 0.5
    brightness: Brightness = 0.4
    contrast: Contrast = 0.4
    saturation: Saturation = 0.2
    hue: Hue = 0.1
    jitter_p: JitterP = 0.8
    grayscale_p: GrayscaleP = 0.1


class ColorAugmentation(Color32Augmentation):
    """As color32, with blur: for colour images of 64 pixels and more."""

    kind: Literal["color"] = "color"  # type: ignore[assignment]
    grayscale_p: GrayscaleP = 0.2
    blur_p: BlurP = 0.5
    blur_sigma: BlurSigma = 2.0


class NoiseAugmentation(_Augmentation):
    """Pixel noise only: the augmentation of the paper's MNIST experiments."""

    kind: Literal["pixel_noise"] = "pixel_noise"
    pixel_noise: PixelNoise = 0.2


Augmentation = Annotated[
    DigitsAugmentation
    | HandwritingAugmentation
    | Color32Augmentation
    | ColorAugmentation
    | NoiseAugmentation,
    Field(discriminator="kind"),
]
