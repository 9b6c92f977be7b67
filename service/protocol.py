"""HTTP/1.1 below the application: a bound on the head of a request, and on the time in which it arrives.

What is refused by its head alone is answered before there is a task for it: half of what a refusal by the
application costs, and under more load than there is room for, refusals are most of what is answered.

The parser underneath takes headers of any number and length and waits for them for ever. What it refuses itself is
answered here as a problem document, like every other error.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Protocol

import httptools
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service import problems
from service.farewell import CLOSE
from service.middleware import new_request_id
from service.refusals import BadRequest, HeadTimeout, HeadTooLarge, Refusal

MAX_HEAD_BYTES = 64 << 10
"""Of request line and headers together; of the trailers of a chunked body as well."""


class Early(Protocol):
    """Whatever refuses requests by their heads."""

    @property
    def strict(self) -> bool:
        """Whether anything is refused now."""
        ...

    def refused(self, scope: Scope) -> Response | None:
        """The answer to a request; None: the application answers it."""
        ...


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    head_timeout_s: ClassVar[float] = 30.0
    """From the first byte of a request, or from the connection, until its headers are complete."""
    early: ClassVar[Early | None] = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answered_early, self._ends = False, False
        self._in_head, self._head_bytes, self._field_bytes = True, 0, 0
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
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge())
        elif self._late is None and (self._answered_early or (self._in_head and self._head_bytes)):
            self._expect_head()  # the body of what was refused has as long

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > MAX_HEAD_BYTES and not self._in_head:
            raise ValueError("trailers without end")

    def on_headers_complete(self) -> None:
        too_long = self._field_bytes + len(self.url) > MAX_HEAD_BYTES
        self._in_head, self._head_bytes, self._field_bytes = False, 0, 0
        self._forget_timer()
        if too_long:
            self._refuse(HeadTooLarge())
            raise ValueError("a head that is too long")
        if not self._refused_by_head():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._answered_early:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._answered_early:
            super().on_message_complete()
        else:
            self._forget_timer()
            self._answered_early = False
            self.on_response_complete()
            if self._ends:
                self.transport.close()
        self._in_head, self._head_bytes, self._field_bytes = True, 0, 0

    def _refused_by_head(self) -> bool:
        """Whether the request has its answer; what comes of its body is then read and left."""
        if self.early is None or not self.early.strict:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # its answer comes after that of the request before
        path = httptools.parse_url(self.url).path.decode("ascii")
        answer = self.early.refused(
            {**self.scope, "method": self.parser.get_method().decode("ascii"), "path": path}
        )
        if answer is None:
            return False
        self._answered_early = True
        self._ends = not self.parser.should_keep_alive() or CLOSE in self.server_state.default_headers
        self._write(answer, close=self._ends)
        return True

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
        request_id = new_request_id()
        answer = problems.response(error, request_id)
        answer.headers["X-Request-Id"] = request_id
        self._write(answer, close=True)
        self.transport.close()

    def _write(self, answer: Response, *, close: bool) -> None:
        """All of ``answer``."""
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        if close and CLOSE not in headers:
            headers.append(CLOSE)
        lines = [STATUS_LINE[answer.status_code], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
        self.transport.write(b"".join(lines) + bytes(answer.body))


def bounded(head_timeout_s: float, early: Early | None = None) -> type[BoundedHttp]:
    """The protocol with this patience; ``early`` is asked first."""
    return type("Http", (BoundedHttp,), {"head_timeout_s": head_timeout_s, "early": early})
