"""What is wrong with values that pydantic refused, in the words and at the place of whoever wrote them.

pydantic's ``loc`` also names the branch of a union that it tried ("noise", "gaussian", "sigma", "float"); nobody wrote
those words, so the walk keeps only what is in the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


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


def place(item: ErrorDetails, body: Any) -> list[str | int]:
    """Where in ``body`` the problem is; the field ``kind`` of a part that has none, or one that there is not."""
    path = walk(item["loc"], body, keep_last=item["type"] == "missing")
    return [*path, "kind"] if item["type"].startswith("union_tag_") else path


def words(item: ErrorDetails) -> str:
    """What is wrong, without the names of pydantic's own parts."""
    match item["type"]:
        case "union_tag_not_found":
            return "Field required"
        case "union_tag_invalid":
            return f"{item['ctx']['tag']!r} is none of {item['ctx']['expected_tags']}"
        case _:
            return item["msg"].removeprefix("Value error, ")
