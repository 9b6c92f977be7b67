"""Images as they come in a request: multipart, one raw file, .npy, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from service import bodies, forms, marks, vectors
from service.accept import JSON, NPY, media_type
from service.inference import npy
from service.inference.room import Room
from service.pointers import unknown_field
from service.refusals import Blame, InvalidBody, MalformedBody, TooLarge, UnsupportedMediaType
from service.schemas import ImagesIn
from service.settings import Settings
from service.state import services

RAW = (
    *("image/png", "image/jpeg", "image/jpg", "image/webp", "image/bmp", "image/x-ms-bmp"),
    *("image/gif", "image/tiff"),
)
TAKEN = (forms.MULTIPART, *RAW, NPY, JSON)
FIELD = "images"
PIECE = 1 << 18
LONGEST_HEAD = 256
"""Of a data URI, up to its comma."""
"""Characters of base64 that are decoded at a time."""

Files = Sequence[bytes | None]
"""Image files; None where the text was not even base64."""
Images = Files | NDArray[np.uint8]
Embeddings = NDArray[np.float32]


async def images(request: Request, room: Room) -> Images:
    """The images of an embedding request, each byte of which takes ``room`` as it arrives.

    Raises UnsupportedMediaType, TooLarge, MalformedBody, InvalidBody, TooManyBytes.
    """
    settings = services(request).settings
    kind, raw = await _body(request, room, marks.of_images(settings))
    if isinstance(raw, list):
        return _counted(raw, settings)
    if kind == NPY:
        return _counted(_array(raw), settings)
    if kind == JSON:
        with room.holding(2 * len(raw)):  # the texts, and the files in them
            found = await bodies.off_loop(_base64_images, raw, size=len(raw))
        return _counted(found, settings)
    return [raw]


async def images_or_embeddings(
    request: Request, dim: int, room: Room
) -> tuple[Images | None, Embeddings | None]:
    """What a scoring request holds: images as for embedding, or rows (n, ``dim``)."""
    settings = services(request).settings
    kind, raw = await _body(request, room, marks.of_rows(settings))
    if isinstance(raw, list):
        return _counted(raw, settings), None
    if kind not in (NPY, JSON):
        return [raw], None
    read = _array_or_rows if kind == NPY else _base64_or_rows
    with room.holding(2 * len(raw)):
        images_, rows = await bodies.off_loop(read, raw, dim, size=len(raw))
    return (None, rows) if images_ is None else (_counted(images_, settings), None)


async def _body(request: Request, room: Room, count: marks.Count) -> tuple[str, bytes | list[bytes]]:
    """Content-Type and the body; the files of a multipart one. ``count`` sees what is JSON."""
    settings, kind = services(request).settings, media_type(request)
    if kind == forms.MULTIPART:
        return kind, await _files(request, settings, room)
    if kind not in TAKEN:
        if not kind and not await bodies.read(request, settings.max_embed_bytes, room.arrived):
            raise MalformedBody(f"The request needs a body, of one of these types: {', '.join(TAKEN)}.")
        raise UnsupportedMediaType(f"Content-Type must be one of {', '.join(TAKEN)}.")
    watchers = (room.arrived, count) if kind == JSON else (room.arrived,)
    return kind, await bodies.read(request, settings.max_embed_bytes, *watchers)


class _Sink(forms.MemorySink):
    """One image of a form, in the room of its request."""

    def __init__(self, limit: int, room: Room) -> None:
        super().__init__(limit, what="An image")
        self._room = room

    async def write(self, data: bytes) -> None:
        self._room.take(len(data))
        await super().write(data)


async def _files(request: Request, settings: Settings, room: Room) -> list[bytes]:
    sinks: list[_Sink] = []

    def open_sink(part: forms.Part) -> forms.Sink:
        if part.name != FIELD:
            raise InvalidBody(errors=[unknown_field(part.name, [FIELD])])
        sinks.append(_Sink(settings.max_embed_bytes, room))
        return sinks[-1]

    await forms.read_form(
        request,
        max_bytes=settings.max_embed_bytes + forms.OVERHEAD_PER_PART * settings.max_embed_images,
        max_parts=settings.max_embed_images,
        open_sink=open_sink,
    )
    if not sinks:
        raise InvalidBody(errors=[Blame(f"/{FIELD}", "Field required")])
    return [sink.value for sink in sinks]


def _counted(found: Images, settings: Settings) -> Images:
    if len(found) > settings.max_embed_images:
        raise TooLarge(f"{len(found)} images are over the limit of {settings.max_embed_images} a request.")
    return found


def _array(raw: bytes) -> NDArray[np.uint8]:
    try:
        return npy.images(raw)
    except npy.BadArray as error:
        raise MalformedBody(str(error)) from None


def _array_or_rows(raw: bytes, dim: int) -> tuple[Images | None, Embeddings | None]:
    try:
        if npy.dtype_of(raw) == np.uint8:
            return npy.images(raw), None
        return None, npy.embeddings(raw, dim)
    except npy.BadArray as error:
        raise MalformedBody(str(error)) from None


def from_base64(texts: Sequence[str]) -> list[bytes | None]:
    """The files; None for a text that is not base64. It may come in lines, and as a data URI."""
    return [_unbase64(_only_base64(text)) for text in texts]


def _base64_images(raw: bytes) -> list[bytes | None]:
    return from_base64(bodies.parse(ImagesIn, raw).images)


def _base64_or_rows(raw: bytes, dim: int) -> tuple[Images | None, Embeddings | None]:
    if b'"embeddings"' in raw:  # neither base64 nor numbers have a quote: it is a key
        return None, vectors.read(raw, dim)
    try:
        return _base64_images(raw), None
    except InvalidBody:
        if b'"images"' in raw:
            raise
        raise InvalidBody(
            errors=[Blame(f"/{FIELD}", 'Send "images", as base64, or "embeddings", rows of numbers.')]
        ) from None


def _unbase64(text: str) -> bytes | None:
    """A piece at a time: while it works, nothing else in this process does."""
    try:
        pieces = [
            base64.b64decode(text[start : start + PIECE], validate=True)
            for start in range(0, len(text), PIECE)
        ]
    except (binascii.Error, ValueError):
        return None
    whole = all(len(piece) == PIECE // 4 * 3 for piece in pieces[:-1])  # padding stands at the end alone
    return b"".join(pieces) if whole else None


def is_data_uri(text: str) -> bool:
    """Whether ``text`` begins like ``data:image/…;base64,…``. Nothing is ever fetched."""
    head, comma, _ = text[:LONGEST_HEAD].partition(",")
    pieces = head.lower().split(";")
    return bool(comma) and pieces[0].startswith("data:image/") and pieces[-1].strip() == "base64"


def _only_base64(text: str) -> str:
    """Without the head of a data URI, and without the ends of lines that many programs write."""
    if is_data_uri(text):
        text = text.partition(",")[2].strip()
    return "".join(text.split("\n")).replace("\r", "") if "\n" in text else text
