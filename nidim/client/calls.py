"""Requests with their retries and errors: what every resource of the client stands on."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray

from nidim.client.errors import NidimServerError, ServerUnreachable, from_problem
from nidim.client.retry import RetryPolicy, Tries, retry_after_s
from nidim.client.transport import Call, Transport
from nidim.errors import NidimError

JSON = "application/json"
NPY = "application/x-npy"
PAGE = 200
"""Items that a page of a list is asked for."""


class Calls:
    """A transport, with retries of what is safe to repeat and typed errors."""

    def __init__(
        self, transport: Transport, policy: RetryPolicy, server: Mapping[str, Any] | None = None
    ) -> None:
        self.transport, self.policy, self.server = transport, policy, dict(server or {})

    async def answer(self, call: Call) -> httpx.Response:
        """The whole answer. Raises NidimServerError, ServerUnreachable."""
        tries = Tries(self.policy)
        while True:
            try:
                async with self.once(call) as answer:
                    with unreachable(answer.request.url.path):
                        await self.transport.read(answer)
                    return answer
            except (NidimServerError, ServerUnreachable) as error:
                if not call.repeatable:
                    raise
                wait_s = tries.after(error if isinstance(error, NidimServerError) else None)
                if wait_s is None:
                    raise
                await self.transport.sleep(wait_s)

    @contextlib.asynccontextmanager
    async def once(self, call: Call) -> AsyncGenerator[httpx.Response]:
        """A good answer whose body has not been read, tried once. Raises NidimServerError, ServerUnreachable."""
        async with contextlib.AsyncExitStack() as stack:
            with unreachable(call.path):
                answer = await stack.enter_async_context(self.transport.opened(call))
                if not answer.is_success:
                    await self.transport.read(answer)
            if not answer.is_success:
                raise problem_of(answer)
            yield answer

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON at ``path``."""
        return await self._json(Call(method="GET", path=path, params=_given(params), repeatable=True))

    async def create(self, path: str, body: Any = None) -> Any:
        """POST that creates something, once however often it has to be sent."""
        headers = {"Idempotency-Key": new_key()}
        return await self._json(
            Call(method="POST", path=path, headers=headers, body=_json_body(body), repeatable=True)
        )

    async def post(self, path: str, body: Any = None) -> Any:
        """POST that changes nothing, or nothing more when it is repeated."""
        return await self._json(Call(method="POST", path=path, body=_json_body(body), repeatable=True))

    async def change(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """PUT or DELETE: sent once, as a second time may mean something else."""
        return await self._json(
            Call(method=method, path=path, body=_json_body(body), headers=dict(headers or {}))
        )

    async def rows(self, call: Call) -> tuple[NDArray[np.float32], httpx.Headers]:
        """The float32 rows of an .npy answer, and its headers."""
        answer = await self.answer(call)
        return np.load(io.BytesIO(answer.content), allow_pickle=False), answer.headers

    async def listed(self, path: str, **params: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get(path, limit=PAGE, cursor=cursor, **params)
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def _json(self, call: Call) -> Any:
        answer = await self.answer(call)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise NidimError(f"{answer.request.url} answers no JSON: is that a server of nidim?") from None


def segment(text: str) -> str:
    """``text`` as one segment of a path. Raises ValueError for what can be none."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no name, reference or id")
    return quote(text, safe="@:")


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return secrets.token_urlsafe(24)


def problem_of(answer: httpx.Response) -> NidimServerError:
    """The error of an answer that has been read."""
    try:
        body: object = answer.json()
    except ValueError:
        body = answer.text
    return from_problem(
        answer.status_code,
        body,
        request_id=answer.headers.get("x-request-id"),
        retry_after_s=retry_after_s(answer.headers.get("retry-after")),
    )


@contextlib.contextmanager
def unreachable(path: str) -> Iterator[None]:
    """httpx's errors of a connection as ours."""
    try:
        yield
    except httpx.TransportError as error:
        raise ServerUnreachable(
            f"No answer from {_address(error)} for {path}: {error or type(error).__name__}. "
            "Is the server running at this address?"
        ) from error


def _address(error: httpx.TransportError) -> str:
    """Of the server; a name and password in its URL are not shown."""
    try:
        url = error.request.url
    except RuntimeError:  # no request was made yet
        return "the server"
    return f"{url.scheme}://{url.netloc.decode()}"


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def json_body(body: Any) -> Mapping[str, Any]:
    """``body`` as JSON, its NumPy numbers as numbers, for httpx. Raises ValueError for a number that is not finite."""
    text = json.dumps(body, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return {"content": text.encode(), "headers": {"Content-Type": JSON}}


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def _json_body(body: Any) -> Callable[[], Mapping[str, Any]]:
    return lambda: {} if body is None else json_body(body)
