"""The table ``scale``: more classes, more pixels, more images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nidim.reproduce.figures import lists
from nidim.reproduce.figures.lists import Dot, Line, Look, Panel, gathered
from nidim.reproduce.figures.style import SW2, WITH_NOISE, WITHOUT, Mark, chance, of, spread
from nidim.reproduce.table import COST, INFORMATION, USE, Column, Found, Row, Run, Scale, Table, of_report
from nidim.spec.defaults import default_sigma

DIM = 64
SEEN = 240_000
"""Images shown in a training of scale small, whatever the dataset."""
MOST_EPOCHS = 150

SETS: tuple[tuple[str, str, int, int | None, int], ...] = (
    ("digits", "digits", 8, None, 1_438),
    ("mnist", "MNIST", 28, None, 60_000),
    ("cifar10-jpeg", "CIFAR-10", 32, None, 50_000),
    ("tiny-imagenet-100", "Tiny ImageNet", 32, 10, 2_400),
    ("tiny-imagenet-100", "Tiny ImageNet", 32, 50, 12_000),
    ("tiny-imagenet-100", "Tiny ImageNet", 32, 100, 24_000),
    ("tiny-imagenet-100", "Tiny ImageNet", 64, 10, 2_400),
    ("tiny-imagenet-100", "Tiny ImageNet", 64, 50, 12_000),
    ("tiny-imagenet-100", "Tiny ImageNet", 64, 100, 24_000),
)
"""(dataset, title, side in pixels, classes, training images)."""


def _rows(scale: Scale) -> Sequence[Row]:
    return [
        Row(
            f"{name}-{side}-{classes or 'all'}-{'noise' if noise else 'plain'}",
            (title, str(side), str(classes or 10), "σ = 0.75" if noise else "none"),
            _changes(name, side, images, noise=noise, scale=scale),
            name,
            classes=classes,
        )
        for name, title, side, classes, images in SETS
        for noise in (True, False)
    ]


def _changes(name: str, side: int, images: int, *, noise: bool, scale: Scale) -> dict[str, Any]:
    """The default spec at d = 64; without noise also without the term that the default adds to it."""
    gray = name in ("digits", "mnist")
    kind = "conv" if gray or scale == "small" else "resnet18"
    epochs = MOST_EPOCHS if scale == "full" and not gray else min(max(SEEN // images, 1), MOST_EPOCHS)
    sigma = default_sigma(DIM)
    changes: dict[str, Any] = {
        "encoder": {"kind": kind, "dim": DIM},
        "method": {"kind": "infomax"},
        "image_size": side,
        "epochs": epochs,
        "noise": {"kind": "gaussian", "sigma": sigma},
    }
    if not noise:
        changes |= {
            "noise": {"kind": "none", "certificate_sigma": sigma},
            "regularizer": {"kind": "none"},
        }
    return changes


def _normal_coordinates(name: str) -> Callable[[Run], float | None]:
    def share(run: Run) -> float | None:
        found = run["report"]["clean"]
        return None if found is None else found["fitted"]["dagostino"].get(name)

    return share


def _rank(run: Run) -> float | None:
    found = run["report"]["clean"]
    return None if found is None else found["distances"]["effective_rank"]["value"]


MARKS = {"none": Mark("without either", WITHOUT, filled=False)}
NOISY = Mark("with noise and the sliced term", WITH_NOISE)
PANELS = (
    Panel("accuracy of a linear probe\n(ticks: the most frequent class)"),
    Panel(f"{SW2}\n(dotted: true draws)", 1.0, log=True),
    Panel("share of normal coordinates, at most\n1,000 images (dotted: true draws)", 0.95),
    Panel(f"effective rank\n(dotted: d = {DIM})", DIM),
)


def _figure(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Of each set of images with noise and without: use, distance from the law, normal coordinates, rank."""
    lines = [
        Line(name, [_dot(*pair) for pair in rows], group=" ".join(rows[0][0].labels[:2]))
        for name, rows in gathered(found, _images).items()
    ]
    lists.draw(lines, PANELS, found, path, Look(15))


def _images(row: Row) -> str:
    title, side, classes, _ = row.labels
    return f"{title}, {side} px, {classes} classes"


def _dot(row: Row, runs: Sequence[Run]) -> Dot:
    values = (of("linear"), of("sw2_ratio"), _mostly_normal, _rank)
    return Dot(
        MARKS.get(row.labels[-1], NOISY),
        [spread(runs, value) for value in values],
        [spread(runs, chance), None, None, None],
    )


def _mostly_normal(run: Run) -> float | None:
    of_1000 = _normal_coordinates("pass_share_of_1000")(run)
    return _normal_coordinates("pass_share")(run) if of_1000 is None else of_1000


SCALE = Table(
    name="scale",
    title="More classes, more pixels, more images",
    about="d = 64: noise with the sliced term that the default adds from d = 8 on, and the same training with neither. "
    "Small: the conv net, so that two cores suffice, and 240,000 images shown (digits: 150 epochs); full: ResNet-18 "
    "and 150 epochs on color images. Normal: share of coordinates that pass D'Agostino's test on all test images, and "
    "on 1,000 at a time (.95 under the law). n images show at most log n of C: beyond that the certificate falls only "
    "as far as held-out variances fall short of 1.",
    headings=("dataset", "pixels", "classes", "noise"),
    rows=_rows,
    columns=(
        *INFORMATION,
        of_report("sw2_ratio", "SW2 / floor", ".1f"),
        Column("normal", _normal_coordinates("pass_share"), ".2f"),
        Column("of 1,000", _normal_coordinates("pass_share_of_1000"), ".2f"),
        Column("effective rank", _rank, ".1f"),
        *USE,
        *COST,
    ),
    figure=_figure,
)
