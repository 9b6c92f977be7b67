"""How a view is made from an image: the field ``augmentation`` of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nidim.spec.base import Part


class _Augmentation(Part):
    """Strengths of the operations, each drawn anew for every image. 0 (or 1 for crop_min) switches one off."""

    rotate: float = Field(0.0, ge=0, le=3.2, description="largest rotation, radians")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size")
    shear: float = Field(0.0, ge=0, le=2, description="largest shear, tangent")
    shift: float = Field(0.0, ge=0, le=1, description="largest shift, in halves of the image")
    crop_min: float = Field(1.0, gt=0, le=1, description="smallest area of a random resized crop")
    flip_p: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    elastic: float = Field(
        0.0,
        ge=0,
        le=1,
        description="standard deviation of an elastic displacement of every pixel, in halves of the image",
    )
    elastic_scale: float = Field(
        0.3, ge=0.05, le=2, description="over which that displacement is smooth, in halves of the image"
    )
    morphology: float = Field(
        0.0, ge=0, le=1, description="largest degree of a grayscale dilation or erosion by 3 × 3 pixels"
    )
    brightness: float = Field(0.0, ge=0, le=1, description="strength of the brightness jitter")
    contrast: float = Field(0.0, ge=0, le=1, description="strength of the contrast jitter")
    saturation: float = Field(0.0, ge=0, le=1, description="strength of the saturation jitter")
    hue: float = Field(0.0, ge=0, le=0.5, description="strength of the hue jitter, turns")
    jitter_p: float = Field(0.0, ge=0, le=1, description="probability of any colour jitter")
    grayscale_p: float = Field(0.0, ge=0, le=1, description="probability of losing the colours")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of a Gaussian blur")
    blur_sigma: float = Field(0.0, ge=0, le=8, description="largest blur, pixels")
    pixel_noise: float = Field(0.0, ge=0, le=2, description="standard deviation of pixel noise, range [0, 1]")


class DigitsAugmentation(_Augmentation):
    """Affine maps and pixel noise, no flips: for handwriting and other gray shapes."""

    kind: Literal["digits"] = "digits"
    rotate: float = Field(0.35, ge=0, le=3.2, description="largest rotation, radians")
    scale: float = Field(0.2, ge=0, lt=1, description="largest relative change of size")
    shear: float = Field(0.3, ge=0, le=2, description="largest shear, tangent")
    shift: float = Field(0.2, ge=0, le=1, description="largest shift, in halves of the image")
    pixel_noise: float = Field(0.1, ge=0, le=2, description="standard deviation of pixel noise, range [0, 1]")


class HandwritingAugmentation(DigitsAugmentation):
    """As digits, with strokes bent and made thicker or thinner: for strokes of two pixels and more."""

    kind: Literal["handwriting"] = "handwriting"  # type: ignore[assignment]
    elastic: float = Field(
        0.06,
        ge=0,
        le=1,
        description="standard deviation of an elastic displacement of every pixel, in halves of the image",
    )
    morphology: float = Field(
        0.5, ge=0, le=1, description="largest degree of a grayscale dilation or erosion by 3 × 3 pixels"
    )


class Color32Augmentation(_Augmentation):
    """Crop, flip, colour jitter, grayscale: for small colour images such as CIFAR."""

    kind: Literal["color32"] = "color32"
    crop_min: float = Field(0.2, gt=0, le=1, description="smallest area of a random resized crop")
    flip_p: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    brightness: float = Field(0.4, ge=0, le=1, description="strength of the brightness jitter")
    contrast: float = Field(0.4, ge=0, le=1, description="strength of the contrast jitter")
    saturation: float = Field(0.2, ge=0, le=1, description="strength of the saturation jitter")
    hue: float = Field(0.1, ge=0, le=0.5, description="strength of the hue jitter, turns")
    jitter_p: float = Field(0.8, ge=0, le=1, description="probability of any colour jitter")
    grayscale_p: float = Field(0.1, ge=0, le=1, description="probability of losing the colours")


class ColorAugmentation(Color32Augmentation):
    """As color32, with blur: for colour images of 64 pixels and more."""

    kind: Literal["color"] = "color"  # type: ignore[assignment]
    crop_min: float = Field(0.2, gt=0, le=1, description="smallest area of a random resized crop")
    grayscale_p: float = Field(0.2, ge=0, le=1, description="probability of losing the colours")
    blur_p: float = Field(0.5, ge=0, le=1, description="probability of a Gaussian blur")
    blur_sigma: float = Field(2.0, ge=0, le=8, description="largest blur, pixels")


class NoiseAugmentation(_Augmentation):
    """Pixel noise only: the augmentation of the paper's MNIST experiments."""

    kind: Literal["pixel_noise"] = "pixel_noise"
    pixel_noise: float = Field(0.2, ge=0, le=2, description="standard deviation of pixel noise, range [0, 1]")


Augmentation = Annotated[
    DigitsAugmentation
    | HandwritingAugmentation
    | Color32Augmentation
    | ColorAugmentation
    | NoiseAugmentation,
    Field(discriminator="kind"),
]
