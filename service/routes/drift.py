"""Drift: the images that were embedded, against the known prior."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from service import views
from service.answers import DriftOut
from service.auth import needs
from service.inference.registry import label
from service.routes.common import App, Author, EncoderAt, guarded
from service.state import Services
from service.store import audit, drift, rfc3339
from service.store.encoders import Encoder

MOMENTS = ("since", "updated_at", "alarm_at")

router = guarded("/v1/encoders/{ref}/drift", "drift", json_only=True)


@router.get("", response_model=DriftOut)
@needs("read")
def get_drift(app: App, encoder: EncoderAt) -> Response:
    """How far the images that were embedded since the reset are from the prior, beyond what held-out images showed.

    Images that another process embedded are in it about a second later.
    """
    return views.answer(_told(app, encoder))


@router.post("/reset", response_model=DriftOut)
@needs("admin")
def reset_drift(app: App, by: Author, encoder: EncoderAt) -> Response:
    """Forget what was watched of this version, its alarm included, and begin anew."""
    app.drifts.flush(encoder.id)
    with app.store.begin() as tx:
        if drift.reset(tx, encoder.id):
            audit.record(tx, by, "drift.reset", encoder.id, version=label(encoder))
    return views.answer(_told(app, encoder))


def _told(app: Services, encoder: Encoder) -> dict[str, Any]:
    app.drifts.flush(encoder.id)
    with app.store.session() as tx:
        seen = drift.get(tx, encoder.id)
    moments = {name: rfc3339(getattr(seen, name)) if seen else None for name in MOMENTS}
    return {"encoder": label(encoder), **moments, **app.drifts.report(encoder, seen)}
