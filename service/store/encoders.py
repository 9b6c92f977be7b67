"""Registered encoders, immutable and numbered per name, and the aliases that point to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from service.store import aliases
from service.store.paging import Page

__all__ = ["Encoder", "EncoderFile", "aliases", "delete", "get_by_ref", "list_"]


@dataclass(frozen=True, kw_only=True)
class EncoderFile:
    """One file of a bundle: the digest of its blob and its length in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One version of an encoder."""

    id: str
    name: str
    version: int
    aliases: tuple[str, ...]
    dim: int
    prior: dict[str, Any]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    report: dict[str, Any]
    files: dict[str, EncoderFile]
    digest: str
    size_bytes: int
    job_id: str
    created_at: datetime


def get_by_ref(tx: Session, ref: str) -> Encoder | None:
    """``enc_…``, ``name`` (its newest version), ``name@3`` or ``name:alias``; None if there is no such thing."""
    raise NotImplementedError


def list_(
    tx: Session, *, name: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[Encoder]:
    """Encoders, newest first, of one name or all. Raises BadCursor."""
    raise NotImplementedError


def delete(tx: Session, ref: str) -> Encoder:
    """Delete one version, named by its ``enc_`` id or ``name@3``, and return it; its number is never used again.

    Raises VersionRequired (a bare name or alias), NotFound, EncoderAliased. Its blobs may be shared: ask
    ``references.unused`` which of them may go, after the commit.
    """
    raise NotImplementedError
