"""Server-sent events out of bytes, however they are cut.

Lines end at CR, LF or CRLF and nowhere else: the data is JSON, in which the other line separators of Unicode are
ordinary characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r(?=.))", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One message; ``data`` is empty in a comment and in a wish for the pause before a reconnect."""

    data: str = ""
    id: str | None = None
    retry_ms: int | None = None


class Parser:
    """Takes pieces, gives messages."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that are whole with ``piece``."""
        text, end = self._rest + piece, 0
        for line in _LINE.finditer(text):
            end = line.end()
            message = self._line(line[1].decode("utf-8", "replace"))
            if message is not None:
                yield message
        self._rest = text[end:]

    def _line(self, line: str) -> Message | None:
        if not line:
            data, self._data = self._data, []
            return Message("\n".join(data), self._id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            return Message()
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            return Message(retry_ms=int(value))
        return None
