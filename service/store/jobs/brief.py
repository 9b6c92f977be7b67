"""The specs of a list of jobs, without the points of a prior: a megabyte each, and a page has a thousand of them.

Cut off within the database, so that this process never holds them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, case, cast, func, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.orm import Session

from service.store.tables import JobRow

LONG = 1 << 15
"""Characters from which a spec can have points: others have a tenth of it."""
POINTS = ("prior", "points")


def spec_of_list(tx: Session) -> ColumnElement[dict[str, Any]]:
    """The column ``spec`` as a list shows it."""
    spec = JobRow.spec
    if tx.get_bind().dialect.name == "sqlite":
        shorter: ColumnElement[Any] = func.json_remove(spec, f"$.{'.'.join(POINTS)}")
    else:
        shorter = cast(cast(spec, JSONB).op("#-")(cast(array(POINTS), ARRAY(Text))), JSON)
    shown = case((func.length(cast(spec, Text)) > LONG, shorter), else_=spec)
    return type_coerce(shown, spec.type).label("spec")


def brief(spec: dict[str, Any]) -> dict[str, Any]:
    """The same of a spec that was read whole."""
    prior = spec.get(POINTS[0])
    if not prior or POINTS[1] not in prior:
        return spec
    return {**spec, POINTS[0]: {name: value for name, value in prior.items() if name != POINTS[1]}}
