"""HTTP/1.1 below the application: a bound on the head of a request, and on the time in which it arrives.

The parser underneath takes headers of any number and length and waits for them for ever. What it refuses itself is
answered here as a problem document, like every other error.
"""

from __future__ import annotations

import asyncio
import http
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import problems
from service.middleware import new_request_id
from service.refusals import BadRequest, HeadTimeout, HeadTooLarge, Refusal

MAX_HEAD_BYTES = 64 << 10
"""Of request line and headers together; of the trailers of a chunked body as well."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    head_timeout_s: ClassVar[float] = 30.0
    """From the first byte of a request, or from the connection, until its headers are complete."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head, self._head_bytes = True, 0
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._late is None:
                self._expect_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadTooLarge())

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if not self._in_head:  # a trailer
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise ValueError("trailers without end")

    def on_headers_complete(self) -> None:
        too_long = (
            sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES
        )
        self._in_head, self._head_bytes = False, 0
        self._forget_timer()
        if too_long:
            self._refuse(HeadTooLarge())
            raise ValueError("a head that is too long")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        del msg
        if not self.transport.is_closing():
            self._refuse(BadRequest())

    def _expect_head(self) -> None:
        self._forget_timer()
        self._late = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _forget_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        """Too late; a connection on which nothing ever came is closed without a word."""
        self._late = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # these bytes came early: the request before is still being answered
        elif self._head_bytes:
            self._refuse(HeadTimeout())
        else:
            self.transport.close()

    def _refuse(self, error: Refusal) -> None:
        body = orjson.dumps(problems.problem(error, new_request_id()))
        head = (
            f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\n"
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(head_timeout_s: float) -> type[BoundedHttp]:
    """The protocol with this patience."""
    return type("Http", (BoundedHttp,), {"head_timeout_s": head_timeout_s})
