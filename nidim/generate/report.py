"""What is known of a generator: its samples beside real images, fed from the prior and from held-out embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """Generated images beside real held-out ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frechet_distance: float = Field(
        description="between Gaussians with the moments of the features; 0 is best"
    )
    precision: float = Field(description="share of generated images that lie among real ones")
    recall: float = Field(description="share of real images that lie among generated ones")
    class_distance: float | None = Field(
        description="total variation of the shares of classes; None: no labels"
    )
    class_agreement: float | None = Field(
        description="share of generated images of the class of the image whose embedding they were made from"
    )


class GeneratorReport(BaseModel):
    """The figures of a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(description="in each set that is compared")
    draws: int = Field(
        description="seeds of draws that the figures are averaged over; with the second the halves of the held-out "
        "images have changed places"
    )
    features: Literal["classifier", "encoder"] = Field(description="what the distances are measured in")
    classifier_accuracy: float | None = Field(description="of the classifier on held-out images")
    floor: float = Field(
        description="Fréchet distance between the two halves of the held-out images; in older reports between one of "
        "them and as many training images"
    )
    prior: Quality = Field(description="fed with draws from the prior")
    heldout: Quality = Field(description="fed with embeddings of held-out images that are in no other set")
    prior_gap: float = Field(
        description="Fréchet distance of the first over that of the second: 1 is perfect"
    )
    prior_gap_sd: float | None = Field(description="of the ratio over the draws")
    prior_gap_above_floor: float | None = Field(
        None,
        description="the same of what either distance is above the floor, which as many real images have, too: "
        "comparable between numbers of images. None where the second is hardly above it, or in an older report",
    )


ABOVE = 1.2
"""Times the floor from which a distance is above it by more than the floor itself scatters."""
POOR = 10.0
"""Times the floor from which images made from real embeddings are too poor for the gap to say much."""
HEEDED = 0.5
"""Share of images that have the class of their embedding, below which the same holds."""


def above_floor(prior: float, heldout: float, floor: float) -> float | None:
    """The prior gap of Fréchet distances without what finitely many images add to both; None where nothing is left."""
    return max(prior - floor, 0.0) / (heldout - floor) if heldout > ABOVE * floor else None


def sentence(report: GeneratorReport) -> str:
    """The prior gap in words."""
    share = (report.prior_gap - 1) * 100
    verdict = f"{share:.0f} % farther from real images" if share >= 0.5 else "no farther from real images"
    return (
        f"Images made from draws of the prior are {verdict} than images made from embeddings of real held-out images "
        f"(Fréchet distance {report.prior.frechet_distance:.3g} against {report.heldout.frechet_distance:.3g}, "
        f"{report.images} images each; real images among each other {report.floor:.3g})."
        f"{_above(report)}{_doubt(report)}"
    )


def _above(report: GeneratorReport) -> str:
    """The gap that few images hide."""
    gap = report.prior_gap_above_floor
    return (
        "" if gap is None else f" Above what so many real images show of each other: {gap:.2f} times as far."
    )


def _doubt(report: GeneratorReport) -> str:
    """A generator that heeds its embedding little, or makes poor images of any, has a small gap, too."""
    agrees = report.heldout.class_agreement
    if report.heldout.frechet_distance > POOR * report.floor:
        return " Both are far from real images, so this says little of the law."
    if agrees is not None and agrees < HEEDED:
        return (
            f" Only {100 * agrees:.0f} % have the class of their embedding, so this says little of the law."
        )
    return ""
