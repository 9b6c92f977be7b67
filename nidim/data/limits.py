"""Bounds on what is read from an image, an archive or a table that somebody else made."""

from __future__ import annotations

from dataclasses import dataclass

from nidim.errors import DataError

PILLOW_MAX_PIXELS = 89_478_485
"""Pillow's own alarm for decompression bombs; an own bound above it would never be reached."""


class OverLimit(DataError):
    """The dataset is over a limit of this installation; send a smaller one, or have the limit raised."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What one image and one archive may cost. Bytes are bytes after decompression."""

    max_pixels: int = 50_000_000
    """Of one image, by its header, before anything is decoded."""
    max_member_bytes: int = 64 * 2**20
    """Of one image file."""
    max_members: int = 2_000_000
    """Entries of an archive, rows of a table or an array."""
    max_bytes: int = 64 * 2**30
    """Of all members together."""
    max_ratio: float = 200.0
    """Bytes out for one byte in, of a member and of the whole archive."""
    ratio_floor_bytes: int = 16 * 2**20
    """A small thing may be compressed as well as it likes."""
    max_classes: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= PILLOW_MAX_PIXELS:
            raise ValueError(f"max_pixels must be in 1..{PILLOW_MAX_PIXELS}, not {self.max_pixels}")

    def inflates(self, bytes_out: int, bytes_in: int) -> bool:
        """Whether so many bytes from so few look like a decompression bomb."""
        return bytes_out > self.ratio_floor_bytes and bytes_out > self.max_ratio * max(bytes_in, 1)


DEFAULT_LIMITS = ImageLimits()
ACCEPTED = ImageLimits(
    max_pixels=PILLOW_MAX_PIXELS,
    max_member_bytes=2**62,
    max_members=2**62,
    max_bytes=2**62,
    max_ratio=float("inf"),
    max_classes=2**62,
)
"""For a file that an ingestion has let in, under whatever limits held then."""
