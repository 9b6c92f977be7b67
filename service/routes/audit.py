"""The audit log: who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from service import views
from service.answers import AuditOut, ListOut
from service.auth import needs
from service.routes.common import App, Cursor, Limit, guarded
from service.store import audit

WHO_PATTERN = "^(key_[0-9a-z]{1,60}|open|cli|bootstrap|worker|retention)$"

router = guarded("/v1/audit", "audit", json_only=True)


@router.get("", response_model=ListOut[AuditOut])
@needs("admin")
def list_audit(
    app: App,
    limit: Limit = 50,
    cursor: Cursor = None,
    who: Annotated[
        str | None,
        Query(max_length=64, pattern=WHO_PATTERN, description="changes by this key id, open, cli, … only"),
    ] = None,
) -> Response:
    """Every change, newest first."""
    with app.store.session() as tx:
        page = audit.list_(tx, who=who, limit=limit, cursor=cursor)
    return views.page([views.audit(entry) for entry in page.items], page)
