"""The files of an encoder: whole and verified, or a range of one, with validators (RFC 9110) and digests (RFC 9530)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.errors import BlobDamaged, PreconditionFailed
from service.refusals import EncoderDamaged, RangeNotSatisfiable
from service.store import Blobs
from service.store.encoders import Encoder, EncoderFile

REPORT, PAGE = "report.json", "report.html"
MEDIA_TYPES = {
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".png": "image/png",
}
CHUNK = 1 << 20
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


@dataclass(frozen=True)
class Range:
    """Bytes [start, stop) of a file of ``size`` bytes."""

    start: int
    stop: int
    size: int

    @property
    def content_range(self) -> str:
        """The header of a 206."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def media_type(name: str) -> str:
    """By the suffix."""
    return MEDIA_TYPES.get(name[name.rfind(".") :], "application/octet-stream")


def etag(file: EncoderFile) -> str:
    """Strong: the content's digest."""
    return f'"{file.digest.removeprefix("sha256:")}"'


def repr_digest(file: EncoderFile) -> str:
    """Of the whole file, whatever range is sent."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(file.digest.removeprefix('sha256:'))).decode()}:"


def not_modified(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has this content already."""
    if if_none_match is None:
        return False
    known = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return "*" in known or tag in known


def check_match(if_match: str | None, tag: str) -> None:
    """Raises PreconditionFailed unless the client asks for this content; a weak tag never does (RFC 9110, 13.1.1)."""
    if if_match is not None and not {"*", tag} & {entry.strip() for entry in if_match.split(",")}:
        raise PreconditionFailed


def wanted_range(header: str | None, if_range: str | None, file: EncoderFile) -> Range | None:
    """The one range that is asked for; None: send all. Raises RangeNotSatisfiable.

    Several ranges, or a range of another version (If-Range), are answered with all of it, as the standard allows.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or (if_range is not None and if_range.strip() != etag(file)):
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, file.size - int(last)), file.size
    else:
        start, stop = int(first), min(int(last) + 1, file.size) if last else file.size
        if last and int(last) < start:
            return None
    if start >= file.size or stop <= start:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{file.size}"})
    return Range(start, stop, file.size)


def whole(blobs: Blobs, encoder: Encoder, name: str) -> bytes:
    """All of a small file, verified. Raises EncoderDamaged."""
    try:
        return blobs.read(encoder.files[name].digest)
    except BlobDamaged as error:
        raise EncoderDamaged from error


def open_verified(blobs: Blobs, file: EncoderFile, scratch: Path) -> BinaryIO:
    """A reader at the start of the file, all of which was hashed. Raises EncoderDamaged."""
    try:
        return blobs.open_verified(file.digest, scratch)
    except BlobDamaged as error:
        raise EncoderDamaged from error


def pieces(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Bytes [start, stop) of ``stream``, which is closed afterwards."""
    with stream:
        stream.seek(start)
        left = stop - start
        while left and (data := stream.read(min(CHUNK, left))):
            left -= len(data)
            yield data
