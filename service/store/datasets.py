"""Uploaded datasets. The built-in ones are no rows; they live in ``nidim.data``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from nidim.spec import DatasetFacts
from service.store.paging import Page


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One uploaded dataset as the database has it."""

    name: str
    kind: str
    state: str
    items: int
    classes: list[str]
    image: dict[str, int] | None
    splits: dict[str, int] | None
    license: str | None
    digest: str | None
    blob_digest: str | None
    index_digest: str | None
    size_bytes: int
    skipped: dict[str, Any] | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime

    @property
    def facts(self) -> DatasetFacts:
        """What a spec needs to know of it. Raises DatasetUnavailable until it is ready."""
        raise NotImplementedError


def create(
    tx: Session, *, name: str, license: str | None = None, blob_digest: str | None = None, size_bytes: int = 0
) -> Dataset:
    """Reserve the name, state ``ingesting``. Raises NameTaken."""
    raise NotImplementedError


def get(tx: Session, name: str) -> Dataset | None:
    """The uploaded dataset of this name."""
    raise NotImplementedError


def list_(tx: Session, *, limit: int = 50, cursor: str | None = None) -> Page[Dataset]:
    """Uploaded datasets, newest first. Raises BadCursor."""
    raise NotImplementedError


def hold(tx: Session, name: str) -> Dataset | None:
    """Like ``get``, and it cannot be deleted before this transaction ends; ``jobs.create`` does this by itself."""
    raise NotImplementedError


def set_progress(tx: Session, name: str, progress: Mapping[str, Any]) -> None:
    """Store the progress of an ingestion; also its sign of life (see ``fail_silent``)."""
    raise NotImplementedError


def set_state(
    tx: Session,
    name: str,
    state: str,
    *,
    items: int | None = None,
    classes: Sequence[str] | None = None,
    image: Mapping[str, int] | None = None,
    splits: Mapping[str, int] | None = None,
    digest: str | None = None,
    blob_digest: str | None = None,
    index_digest: str | None = None,
    size_bytes: int | None = None,
    skipped: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> Dataset:
    """Move on from ``ingesting``; what is None stays as it is. Raises NotFound, StateConflict if it had moved on."""
    raise NotImplementedError


def delete(tx: Session, name: str) -> Dataset:
    """Delete the row and return it. Raises NotFound, DatasetInUse.

    Its blobs may be shared: ask ``references.unused`` which of them may go, after the commit.
    """
    raise NotImplementedError


def fail_silent(tx: Session, *, silent_s: float) -> list[str]:
    """Mark ingestions ``failed`` that gave no sign of life for so long: their process is gone."""
    raise NotImplementedError
