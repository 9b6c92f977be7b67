"""multipart/form-data, part by part as it arrives: small parts into memory, files to disk, everything counted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service import bodies
from service.refusals import MalformedBody, TooLarge, UnsupportedMediaType

MULTIPART = "multipart/form-data"
FLUSH_BYTES = 1 << 20
OVERHEAD_PER_PART = 1024

Room = Callable[[int], AbstractContextManager[None]]
"""``with room(n)``: write ``n`` bytes; it raises where there is no room for them."""

__all__ = ["Event", "FileSink", "MemorySink", "Part", "Sink", "read_form"]


@dataclass(frozen=True)
class Part:
    """The head of one part."""

    name: str
    filename: str | None


class Sink(Protocol):
    """Where the bytes of one part go."""

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class MemorySink:
    """Collects at most ``limit`` bytes."""

    def __init__(self, limit: int, *, what: str) -> None:
        self._chunks: list[bytes] = []
        self._left, self._limit, self._what = limit, limit, what

    async def write(self, data: bytes) -> None:
        """Append; raises TooLarge above the limit."""
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"{self._what} is over the limit of {self._limit} bytes.")
        self._chunks.append(data)

    async def close(self) -> None:
        """Nothing to do."""

    @property
    def value(self) -> bytes:
        """Everything that was written."""
        return b"".join(self._chunks)


class FileSink:
    """Writes to ``path`` and hashes on the way, a mebibyte at a time and away from the event loop.

    Each piece is written ``with room(its length)``. No path: the bytes are counted and hashed only.
    """

    def __init__(self, path: Path | None, room: Room = lambda _: nullcontext()) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._room = room
        self._file: BinaryIO | None = None if path is None else path.open("xb")
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def sha256(self) -> str:
        """Of everything that was written, hexadecimal."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= FLUSH_BYTES:
            await self._flush()

    async def close(self) -> None:
        """Write the rest and close the file."""
        await self._flush()
        self.abandon()

    def abandon(self) -> None:
        """Close without the rest."""
        if self._file is not None:
            self._file.close()

    async def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        await asyncio.to_thread(self._put, data)
        self.size += len(data)

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        if self._file is not None:
            with self._room(len(data)):
                self._file.write(data)


@dataclass(frozen=True)
class Event:
    """Something the parser saw: a part begins, some of its data, or its end."""

    part: Part | None = None
    data: bytes = b""
    end: bool = False


class _Collector:
    """Turns the callbacks of python-multipart into events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.finished = False
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._headers_reset,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin,
            "on_part_data": lambda data, start, end: self.events.append(Event(data=data[start:end])),
            "on_part_end": lambda: self.events.append(Event(end=True)),
            "on_end": self._finish,
        }

    def _headers_reset(self) -> None:
        self._headers = {}

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _begin(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise MalformedBody("Every part needs Content-Disposition: form-data with a name.")
        filename = options.get(b"filename")
        self.events.append(
            Event(
                part=Part(
                    name.decode("utf-8", "replace"),
                    None if filename is None else filename.decode("utf-8", "replace"),
                )
            )
        )

    def _finish(self) -> None:
        self.finished = True


async def read_form(
    request: Request, *, max_bytes: int, max_parts: int, open_sink: Callable[[Part], Sink]
) -> None:
    """Feed every part to the sink that ``open_sink`` gives for it.

    ``max_bytes`` bounds the whole body. Raises MalformedBody, TooLarge, and what the sinks raise.
    """
    sink: Sink | None = None
    parts = 0
    async with contextlib.aclosing(_events(request, max_bytes)) as events:
        async for event in events:
            if event.part is not None:
                parts += 1
                if parts > max_parts:
                    raise TooLarge(f"More than {max_parts} parts.")
                sink = open_sink(event.part)
            elif sink is not None and event.end:
                await sink.close()
                sink = None
            elif sink is not None:
                await sink.write(event.data)


async def _events(request: Request, max_bytes: int) -> AsyncGenerator[Event]:
    collector = _Collector()
    parser = MultipartParser(_boundary(request), collector.callbacks())  # type: ignore[arg-type]
    async for chunk in bodies.chunks(request, max_bytes):
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody("The multipart body is damaged.") from error
        for event in collector.events:
            yield event
        collector.events.clear()
    if not collector.finished:
        raise MalformedBody("The multipart body ends before its last boundary.")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != MULTIPART.encode():
        raise UnsupportedMediaType(f"Content-Type must be {MULTIPART}.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise MalformedBody("The Content-Type of a multipart body needs a boundary of 1 to 200 characters.")
    return boundary
