"""Survey: what is remembered of each member while a dataset is gone through; a few bytes each, no pixels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nidim.data import layout
from nidim.data.index import (
    FIRST_SKIPPED,
    Format,
    ImageShape,
    Index,
    Members,
    Packed,
    Skipped,
    SkippedMember,
    Splits,
)
from nidim.data.layout import Label, Place
from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.members import Member, folders
from nidim.errors import DataError

MAX_TEXT = 300


class Seen(NamedTuple):
    """What an image was found to be, in pixels."""

    height: int
    width: int
    gray: bool


class SkippedLog:
    """Counts what is left out and keeps the first names."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[SkippedMember] = []

    def add(self, member: str, reason: str, *, times: int = 1) -> None:
        self.count += times
        if len(self.first) < FIRST_SKIPPED:
            self.first.append(SkippedMember(member=member[:MAX_TEXT], reason=reason[:MAX_TEXT]))

    def frozen(self) -> Skipped:
        return Skipped(count=self.count, first=tuple(self.first))


class Survey:
    """Collects members one by one; :meth:`index` then decides on splits, classes and the common size."""

    def __init__(self, kind: Format, *, limits: ImageLimits, class_names: Sequence[str] = ()) -> None:
        self._kind, self._limits, self._names = kind, limits, class_names
        self.skipped = SkippedLog()
        self._ordinals, self._group_of = array("q"), array("i")
        self._heights, self._widths = array("i"), array("i")
        self._all_gray = True
        self._groups: dict[tuple, int] = {}
        self._examples: list[str] = []

    def add(self, member: Member, seen: Seen | str) -> None:
        """A usable image, or the reason why it is none."""
        if isinstance(seen, str):
            self.skipped.add(member.name, seen)
            return
        self._ordinals.append(member.ordinal)
        self._group_of.append(self._group(member))
        self._heights.append(seen.height)
        self._widths.append(seen.width)
        self._all_gray &= seen.gray

    def index(self, *, digest: str, seed: int) -> Index:
        """Raises DataError when no image was usable."""
        self._refuse_emptiness()
        places = self._places()
        classes = layout.class_names(places)
        group = np.frombuffer(self._group_of, np.int32)
        kept = self._drop_strays(places, classes, group)
        group = group[kept]
        is_test = _test_split(places, group, seed=seed)
        numbers = {label: i for i, label in enumerate(classes)}
        labels = np.array([numbers.get(p.label, -1) for p in places], np.int32)[group]  # type: ignore[arg-type]
        return Index(
            format=self._kind,
            digest=digest,
            items=len(group),
            classes=tuple(self._text(label) for label in classes),
            splits=Splits(train=int((~is_test).sum()), test=int(is_test.sum())),
            image=self._image(kept),
            skipped=self.skipped.frozen(),
            seed=seed,
            members=pack_members(np.frombuffer(self._ordinals, np.int64)[kept], labels, is_test),
        )

    def _group(self, member: Member) -> int:
        key = (member.label, member.split) if self._kind == "parquet" else folders(member.name)
        if key not in self._groups:
            if len(self._groups) >= self._limits.max_classes:
                raise OverLimit(f"The dataset has more than {self._limits.max_classes} folders or labels.")
            self._groups[key] = len(self._groups)
            self._examples.append(member.name)
        return self._groups[key]

    def _places(self) -> list[Place]:
        if self._kind == "parquet":
            return layout.places_from_columns(list(self._groups))
        return layout.places_from_folders(list(self._groups))

    def _refuse_emptiness(self) -> None:
        if self._ordinals:
            return
        why = (
            f" First: {self.skipped.first[0].member}: {self.skipped.first[0].reason}."
            if self.skipped.count
            else ""
        )
        raise DataError(f"No usable image in the file ({self.skipped.count} members skipped).{why}")

    def _drop_strays(self, places: list[Place], classes: tuple[Label, ...], group: np.ndarray) -> np.ndarray:
        stray = np.array(layout.strays(places, classes))
        reason = layout.UNLABELLED if self._kind == "parquet" else layout.STRAY
        counts = np.bincount(group, minlength=len(places))
        for number in np.flatnonzero(stray):
            times = int(counts[number])
            more = f" ({times} images here)" if times > 1 else ""
            self.skipped.add(self._examples[number], reason + more, times=times)
        return ~stray[group]

    def _text(self, label: Label) -> str:
        named = isinstance(label, int) and label < len(self._names)
        return (self._names[label] if named else str(label))[:MAX_TEXT]  # type: ignore[index]

    def _image(self, kept: np.ndarray) -> ImageShape:
        heights = np.frombuffer(self._heights, np.int32)[kept]
        widths = np.frombuffer(self._widths, np.int32)[kept]
        height, width = int(heights[0]), int(widths[0])
        if (heights != height).any() or (widths != width).any():
            height = width = int(np.median(np.minimum(heights, widths)))
        return ImageShape(height=height, width=width, channels=1 if self._all_gray else 3)


def pack_members(ordinals: np.ndarray, labels: np.ndarray, is_test: np.ndarray) -> Members:
    return Members(
        ordinals=Packed.pack(ordinals.astype(np.int64)),
        labels=Packed.pack(labels.astype(np.int32)),
        is_test=Packed.pack(is_test.astype(np.uint8)),
    )


def _test_split(places: list[Place], group: np.ndarray, *, seed: int) -> np.ndarray:
    """As the file says where it says both; else a seeded tenth is held out. Raises DataError for test images alone."""
    is_test = np.array([p.split == "test" for p in places])[group]
    if is_test.all():
        raise DataError(
            "All images of the file are in its test or validation split, so none is left to train on: add a train "
            "split, or give the images without one."
        )
    if not is_test.any():
        return layout.held_out(len(group), seed=seed)
    return is_test
