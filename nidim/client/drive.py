"""One logic for both kinds of client.

Every method that talks to a server is written once, as a coroutine over a :class:`~nidim.client.transport.Transport`.
An asynchronous client hands that coroutine out. A blocking one drives it to its end by itself: the awaits of its
transport block the thread instead of suspending, so no event loop is needed, and one that runs is not disturbed.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")


class Blocking:
    """Mixed into the classes of the blocking client."""


class Awaiting:
    """Mixed into the classes of the asynchronous client."""


def run(work: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    work.close()
    raise RuntimeError("a blocking client waited for an event loop")


def iterate(items: AsyncGenerator[R, None]) -> Generator[R, None, None]:
    """The items of an asynchronous generator that never suspends."""
    try:
        while True:
            try:
                item = run(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())


class method(Generic[P, R]):  # noqa: N801 - it stands where ``classmethod`` would
    """A coroutine method, called as it is by the asynchronous class and to its end by the blocking one.

    Of a class it is a plain function, for ``help()`` and editors.
    """

    def __init__(self, logic: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> None:
        self.logic = logic
        self.__doc__ = logic.__doc__

    @overload
    def __get__(self, thing: None, kind: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, thing: Blocking, kind: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, thing: Awaiting, kind: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, thing: Any, kind: type) -> Any:
        logic = self.logic if thing is None else self.logic.__get__(thing, kind)
        if not issubclass(kind, Blocking):
            return logic

        @functools.wraps(logic)
        def call(*args: Any, **kwargs: Any) -> R:
            return run(logic(*args, **kwargs))

        return call


class stream(Generic[P, R]):  # noqa: N801
    """The same for an asynchronous generator: an iterator of the blocking class."""

    def __init__(self, logic: Callable[Concatenate[Any, P], AsyncGenerator[R, None]]) -> None:
        self.logic = logic
        self.__doc__ = logic.__doc__
        shown = inspect.signature(logic)
        returns = re.sub(r"AsyncGenerator\[(.*), None\]", r"Iterator[\1]", str(shown.return_annotation))
        self._shown = shown.replace(return_annotation=returns)

    @overload
    def __get__(self, thing: None, kind: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, thing: Blocking, kind: type) -> Callable[P, Generator[R, None, None]]: ...
    @overload
    def __get__(self, thing: Awaiting, kind: type) -> Callable[P, AsyncGenerator[R, None]]: ...
    def __get__(self, thing: Any, kind: type) -> Any:
        logic = self.logic if thing is None else self.logic.__get__(thing, kind)
        if not issubclass(kind, Blocking):
            return logic

        @functools.wraps(logic)
        def call(*args: Any, **kwargs: Any) -> Generator[R, None, None]:
            return iterate(logic(*args, **kwargs))

        taken = list(self._shown.parameters.values())
        call.__signature__ = self._shown.replace(parameters=taken if thing is None else taken[1:])  # type: ignore[attr-defined]
        return call
