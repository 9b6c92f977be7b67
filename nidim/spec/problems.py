"""What is wrong with values that pydantic refused, in the words and at the place of whoever wrote them.

pydantic's ``loc`` also names the branch of a union that it tried ("noise", "gaussian", "sigma", "float"); nobody wrote
those words, so the walk keeps only what is in the values.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from nidim.spec.names import IN_WORDS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


LONGEST_NAME = 100
"""Characters of a name that are compared with those of fields."""


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


def words(item: ErrorDetails, model: type[BaseModel] | None = None, body: Any = None) -> str:
    """What is wrong, without the names of pydantic's own parts; ``model``: which refused ``body``."""
    match item["type"]:
        case "extra_forbidden":
            return _no_such_field(model, body, [str(step) for step in place(item, body)])
        case "string_pattern_mismatch":
            return IN_WORDS.get(item["ctx"]["pattern"], item["msg"])
        case "union_tag_not_found":
            return "Field required"
        case "union_tag_invalid":
            return f"{item['ctx']['tag']!r} is none of {item['ctx']['expected_tags']}"
        case _:
            return item["msg"].removeprefix("Value error, ")


def parts_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this type may hold, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_of(inner)]


def _no_such_field(model: type[BaseModel] | None, body: Any, path: Sequence[str]) -> str:
    """With the field that was probably meant, or those that there are."""
    *parents, name = path
    fields = _fields(model, body, parents)
    near = difflib.get_close_matches(name[:LONGEST_NAME], fields, n=1)
    if near:
        return f"there is no such field; did you mean {near[0]}?"
    return "there is no such field" + (f"; there are {', '.join(fields)}." if fields else ".")


def _fields(model: type[BaseModel] | None, body: Any, parents: Sequence[str]) -> list[str]:
    """Those of the part of ``body`` to which ``parents`` lead; none where it is not known."""
    for parent in parents:
        if model is None or parent not in model.model_fields:
            return []
        body = body[parent]
        model = _part(model.model_fields[parent].annotation, body)
    return [] if model is None else list(model.model_fields)


def _part(annotation: Any, values: Any) -> type[BaseModel] | None:
    """The one of the kind that ``values`` name; where they name none, the first."""
    parts = parts_of(annotation)
    kind = values.get("kind") if isinstance(values, dict) else None
    named = [part for part in parts if kind in _kinds(part)]
    return next(iter(named or (parts if kind is None else [])), None)


def _kinds(part: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(part.model_fields["kind"].annotation) if "kind" in part.model_fields else ()
