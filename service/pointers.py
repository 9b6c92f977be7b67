"""From a pydantic error to the place in the body: JSON pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from nidim.spec.problems import place, words
from service.refusals import Blame

MAX_ERRORS = 100
MAX_DETAIL = 500
"""Characters: a message may repeat what the client wrote."""
MAX_NAME = 100
"""Characters of a field that a pointer repeats."""


def escape(token: str | int) -> str:
    """One reference token, as RFC 6901 escapes it."""
    return str(token).replace("~", "~0").replace("/", "~1")


def pointer(tokens: Iterable[str | int]) -> str:
    """``/spec/noise/sigma``; empty for the whole body."""
    return "".join(f"/{escape(token)}" for token in tokens)


def unknown_field(name: str, fields: Iterable[str]) -> Blame:
    """The blame for a field of a form that is none of ``fields``, in the words for one of a JSON body."""
    return Blame(pointer([name[:MAX_NAME]]), f"there is no such field; there are {', '.join(fields)}.")


def blames(
    error: ValidationError, body: Any, model: type[BaseModel], *, prefix: Sequence[str | int] = ()
) -> list[Blame]:
    """Every place that ``model`` finds at fault in ``body``, the branches of one union joined into one."""
    found: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]:
        path = place(item, body)
        if item["type"] == "contradiction":
            path.append(item["ctx"]["field"])
        details = found.setdefault(pointer([*prefix, *path]), [])
        if (detail := words(item, model, body)[:MAX_DETAIL]) not in details:
            details.append(detail)
    return [Blame(at, " or ".join(details)) for at, details in found.items()]
