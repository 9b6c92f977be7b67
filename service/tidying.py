"""After a deletion: give back its room at once, where that is safe. What is left over, retention sweeps up."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from service.state import Services
from service.store import retention

logger = logging.getLogger(__name__)


async def discard(app: Services, digests: Iterable[str | None]) -> None:
    """Delete the blobs that nothing refers to any more; an error is logged: the deletion itself has happened."""
    try:
        await app.blob_threads.run(retention.discard, app.store, list(digests))
    except Exception:
        logger.exception("unused blobs were not deleted; retention will")
