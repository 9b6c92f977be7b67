"""Text and JSON that every database takes, whatever a client or a training sent.

PostgreSQL refuses NUL characters, no database takes lone surrogates, and JSON knows no NaN.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator


def clean(text: str) -> str:
    """The text with NUL and lone surrogates replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class CleanText(TypeDecorator[str]):
    """A column for text that others wrote."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else clean(value)


def finite(value: Any) -> Any:
    """The JSON value with None in place of NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """Compact JSON in ASCII; what is not finite becomes null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, separators=(",", ":"))


def from_json(text: str | bytes) -> Any:
    """The value of stored JSON; what the quick parser does not take (lone surrogates) goes to the patient one."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
