"""From a pydantic error to the place in the body: JSON pointers (RFC 6901).

pydantic's ``loc`` also names the branch of a union that it tried ("noise", "gaussian", "sigma", "float"); a client
never wrote those words, so the walk keeps only what is in the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.refusals import Blame

MAX_ERRORS = 100
MAX_DETAIL = 500
"""Characters: a message may repeat what the client wrote."""


def escape(token: str | int) -> str:
    """One reference token, as RFC 6901 escapes it."""
    return str(token).replace("~", "~0").replace("/", "~1")


def pointer(tokens: Iterable[str | int]) -> str:
    """``/spec/noise/sigma``; empty for the whole body."""
    return "".join(f"/{escape(token)}" for token in tokens)


def walk(loc: Sequence[str | int], body: Any, *, keep_last: bool) -> list[str | int]:
    """The steps of ``loc`` that exist in ``body``; ``keep_last``: the last one, too, where it is missing."""
    here, path = body, []
    for i, step in enumerate(loc):
        if isinstance(here, dict):
            if step in here:
                here = here[step]
                path.append(step)
            elif keep_last and i == len(loc) - 1:
                path.append(step)
        elif isinstance(here, list) and isinstance(step, int):
            path.append(step)
            here = here[step] if step < len(here) else None
    return path


def blames(error: ValidationError, body: Any, *, prefix: Sequence[str | int] = ()) -> list[Blame]:
    """Every place that ``error`` names in ``body``, the branches of one union joined into one."""
    found: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]:
        path = walk(item["loc"], body, keep_last=item["type"] == "missing")
        if item["type"] == "contradiction":
            path.append(item["ctx"]["field"])
        elif item["type"].startswith("union_tag_"):
            path.append("kind")
        details = found.setdefault(pointer([*prefix, *path]), [])
        if (detail := _words(item)[:MAX_DETAIL]) not in details:
            details.append(detail)
    return [Blame(place, " or ".join(details)) for place, details in found.items()]


def _words(item: ErrorDetails) -> str:
    """What is wrong, without the names of pydantic's own parts."""
    match item["type"]:
        case "union_tag_not_found":
            return "Field required"
        case "union_tag_invalid":
            return f"{item['ctx']['tag']!r} is none of {item['ctx']['expected_tags']}"
        case _:
            return item["msg"].removeprefix("Value error, ")
