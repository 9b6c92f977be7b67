"""Request bodies: counted while they arrive, never trusted to be as long as they say.

A client has ``body_timeout_s`` seconds to keep the server waiting. What arrives gives them back, at
``body_min_bytes_per_s``, never beyond the first sum: silence ends a request, and so does a byte now and then.

The routes read their bodies themselves, after the key was checked; so nobody without a key makes the server read.
JSON nests at most 200 levels (the parser's own limit).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service import marks
from service.accept import JSON, media_type
from service.pointers import blames
from service.refusals import BodyTimeout, InvalidBody, MalformedBody, TooLarge, UnsupportedMediaType
from service.settings import Settings
from service.state import services

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
INLINE_BYTES = 1 << 15
MAX_PLACES = 1_000
"""To blame in one body; of more, only the number is told."""


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooLarge, BodyTimeout, UnsupportedMediaType, ClientDisconnect."""
    _refuse_compression(request)
    _refuse_declared_length(request, limit)
    patience = _Patience(services(request).settings)
    total, more = 0, True
    while more:
        message = await patience.next(request)
        total += len(message.get("body", b""))
        if total > limit:
            raise _over(limit)
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


class _Patience:
    """With one client: the seconds that it may still keep the server waiting."""

    def __init__(self, settings: Settings) -> None:
        self._most_s = self._left_s = settings.body_timeout_s
        self._s_per_byte = 1 / settings.body_min_bytes_per_s

    async def next(self, request: Request) -> Message:
        """The next piece of the body. Raises BodyTimeout, ClientDisconnect."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._left_s):
                message = await request.receive()
        except TimeoutError:
            raise BodyTimeout from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        waited_s = time.monotonic() - started
        earned_s = len(message.get("body", b"")) * self._s_per_byte
        self._left_s = min(self._most_s, self._left_s - waited_s + earned_s)
        return message


async def read(request: Request, limit: int, *watchers: Callable[[bytes], None]) -> bytes:
    """The whole body, at most ``limit`` bytes; each of ``watchers`` sees each piece as it arrives, and may refuse."""
    pieces = []
    async for chunk in chunks(request, limit):
        for watch in watchers:
            watch(chunk)
        pieces.append(chunk)
    return b"".join(pieces)


def json_body(model: type[M], *, values: int = 0, lists: int = 0) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads a JSON body into ``model``, of which ``values`` in ``lists`` are the essence, if any.

    OpenAPI learns of it through ``body_model``.
    """

    async def body(request: Request) -> M:
        raw = await read(request, services(request).settings.max_json_bytes, marks.of_fields(values, lists))
        require(request, JSON, empty=not raw)
        return await off_loop(parse, model, raw, size=len(raw))

    body.body_model = model  # type: ignore[attr-defined]
    return body


def require(request: Request, *wanted: str, empty: bool = False) -> str:
    """The Content-Type if it is one of ``wanted``. Raises UnsupportedMediaType; an absent body is malformed."""
    kind = media_type(request)
    if not kind and empty:
        raise MalformedBody(f"The request needs a body of type {wanted[0]}.")
    if kind not in wanted:
        raise UnsupportedMediaType(f"Content-Type must be {' or '.join(wanted)}.")
    return kind


def parse(model: type[M], raw: bytes) -> M:
    """JSON bytes as ``model``; a string is never a number, at any depth.

    Raises MalformedBody, InvalidBody with the places that are to blame.
    """
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise _refusal(error, raw, model) from None


async def off_loop(work: Callable[..., T], *arguments: Any, size: int) -> T:
    """``work(*arguments)``, in a thread if it is about more than a few bytes."""
    if size <= INLINE_BYTES:
        return work(*arguments)
    return await anyio.to_thread.run_sync(work, *arguments)


def _refusal(error: ValidationError, raw: bytes, model: type[BaseModel]) -> InvalidBody:
    if (count := error.error_count()) > MAX_PLACES:  # to write them all down takes longer than to find them
        return InvalidBody(f"{count} values in the body cannot be used.")
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return MalformedBody(f"{first['msg']}.")
    return InvalidBody(errors=blames(error, from_json(raw), model))


def _refuse_compression(request: Request) -> None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType("Compressed request bodies are not taken; send the body as it is.")


def _refuse_declared_length(request: Request, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _over(limit)


def _over(limit: int) -> TooLarge:
    return TooLarge(f"The body is over the limit of {limit} bytes.")
