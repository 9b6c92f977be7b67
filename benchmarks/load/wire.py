"""A client of plain asyncio streams: HTTP/1.1 as bytes, so that its own cost hardly shows in the figures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

LIMIT = 1 << 22
ACCEPT = {"Accept": "application/json"}


@dataclass(frozen=True)
class Answer:
    """One answer and how long it took from the first byte sent to the last one received."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Connection:
    """One kept-alive connection to a server on this machine."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port, self.reader, self.writer = port, reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port, limit=LIMIT))

    async def awake(self) -> None:
        """Connect again if the server has closed the connection because it was quiet."""
        if self.reader.at_eof() or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send, and read the whole answer."""
        began = time.perf_counter()
        self.writer.write(head(method, path, len(body), headers or {}) + body)
        await self.writer.drain()
        status, found = await self.answer_head()
        data = b"".join([piece async for piece in self.body(found)])
        return Answer(status, found, data, time.perf_counter() - began)

    async def answer_head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, in lower case."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, value in pairs}

    async def body(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body, piece by piece as it comes."""
        if "content-length" in headers:
            yield await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()

    def close(self) -> None:
        """Hang up."""
        self.writer.close()

    def abort(self) -> None:
        """Hang up without a goodbye."""
        self.writer.transport.abort()


def head(method: str, path: str, length: int, headers: Mapping[str, str]) -> bytes:
    """The head of a request; a JSON body unless ``headers`` say otherwise."""
    fields = {"Host": "localhost", "Content-Length": str(length), **headers}
    if length and "Content-Type" not in fields:
        fields["Content-Type"] = "application/json"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def follow(
    port: int, job_id: str, after: int = 0
) -> tuple[Connection, AsyncIterator[tuple[int, bytes]]]:
    """An open event stream and its events as (id, lines), from the one after ``after``."""
    connection = await Connection.open(port)
    fields = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
    connection.writer.write(head("GET", f"/v1/jobs/{job_id}/events", 0, fields))
    status, found = await connection.answer_head()
    if status != 200:
        raise ConnectionError(f"the stream was answered {status}")
    return connection, _events(connection, found)


async def _events(connection: Connection, headers: Mapping[str, str]) -> AsyncIterator[tuple[int, bytes]]:
    rest = b""
    async for piece in connection.body(headers):
        *whole, rest = (rest + piece).split(b"\n\n")
        for text in whole:
            if text.startswith(b"id: "):
                yield int(text[4 : text.index(b"\n")]), text
