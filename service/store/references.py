"""Which blobs are still needed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session


def unused(tx: Session, digests: Iterable[str]) -> list[str]:
    """Those of the digests that no encoder, job or dataset refers to."""
    raise NotImplementedError
