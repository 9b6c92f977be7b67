"""Index: what ingestion found out about a file, as one compact JSON document.

It names no path and holds no pixels. Per usable image it keeps three numbers, packed column by column (zlib, then
base64): the ordinal that finds the member again, its label, and whether it belongs to the test split. 60,000
images take some tens of kilobytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nidim.errors import DataError
from nidim.spec import DatasetFacts

FIRST_SKIPPED = 100
Format = Literal["zip", "tar", "npz", "npy", "parquet", "folder"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkippedMember(_Value):
    member: str
    reason: str


class Skipped(_Value):
    """How many members were no usable image, and the first of them."""

    count: int = 0
    first: tuple[SkippedMember, ...] = ()


class Splits(_Value):
    train: int
    test: int


class ImageShape(_Value):
    """Pixels, after the EXIF orientation."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: Literal[1, 3]


class Packed(_Value):
    """Integers of one dtype, compressed."""

    dtype: Literal["int64", "int32", "uint8"]
    count: int = Field(ge=0)
    data: str

    @classmethod
    def pack(cls, values: np.ndarray) -> Packed:
        """Differences compress better than a long ascending column itself."""
        steps = np.diff(values, prepend=values.dtype.type(0))
        text = base64.b64encode(zlib.compress(steps.astype(values.dtype.newbyteorder("<")).tobytes(), 6))
        return cls(dtype=str(values.dtype), count=len(values), data=text.decode())

    def unpack(self) -> np.ndarray:
        dtype = np.dtype(self.dtype).newbyteorder("<")
        size = self.count * dtype.itemsize
        try:
            raw = zlib.decompressobj().decompress(base64.b64decode(self.data), size + 1)
        except (zlib.error, ValueError):
            raw = b""
        if len(raw) != size:
            raise DataError("The index of the dataset is damaged; upload the dataset again.")
        return np.cumsum(np.frombuffer(raw, dtype), dtype=self.dtype)


class Members(_Value):
    """Columns over the usable images: ``labels`` is -1 where there is none, ``is_test`` is 0 or 1."""

    ordinals: Packed
    labels: Packed
    is_test: Packed


class Index(_Value):
    """A validated dataset file. ``digest`` is the SHA-256 of the original file.

    ``image``: the size that all images have. Where sizes differ, height and width both are the median of the
    shorter sides. channels is 1 when every image is gray, else 3.
    """

    format_version: Literal[1] = 1
    format: Format
    digest: str
    items: int = Field(ge=1)
    classes: tuple[str, ...] = ()
    splits: Splits
    image: ImageShape
    skipped: Skipped = Skipped()
    seed: int = Field(0, description="of the held-out tenth")
    members: Members

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        columns = (self.members.ordinals, self.members.labels, self.members.is_test)
        if {c.count for c in columns} != {self.items} or self.splits.train + self.splits.test != self.items:
            raise ValueError("items, splits and members do not agree")
        return self

    def facts(self, name: str) -> DatasetFacts:
        """What the defaults of a training need to know."""
        return DatasetFacts(
            name=name,
            n_train=self.splits.train,
            n_test=self.splits.test,
            classes=len(self.classes),
            **self.image.model_dump(),
        )

    def summary(self) -> dict:
        """Everything but the members, JSON-able."""
        return self.model_dump(mode="json", exclude={"members"})

    @property
    def fingerprint(self) -> str:
        """Of the file and of what is taken from it, 16 hexadecimal digits: a name for what is derived."""
        return hashlib.sha256(self.model_dump_json(exclude={"skipped"}).encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Write the JSON document, whole or not at all."""
        temp = path.with_name(f".{path.name}.{os.getpid()}")
        temp.write_text(self.model_dump_json(), encoding="utf-8")
        temp.replace(path)

    @classmethod
    def read(cls, path: Path) -> Index:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
