"""Idempotency keys: the first answer of a request, kept to be given again.

``begin`` and ``finish`` may share one transaction with the work (a job), or ``begin`` commits first, the work takes its
time (an upload) and ``finish`` or ``forget`` comes later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The answer that was given the first time."""

    status: int
    headers: dict[str, str]
    body: bytes


def begin(
    tx: Session,
    *,
    key: str,
    scope: str,
    fingerprint: str,
    keep_s: float = 86_400,
    takeover_s: float = 600,
) -> Replay | None:
    """None: this request is the first, go on. A Replay: answer with it.

    ``scope`` is the caller and the route, ``fingerprint`` a digest of the body. A request that neither finished nor
    was forgotten within ``takeover_s`` died, and its key may be used again. Raises IdempotencyMismatch (another body),
    IdempotencyInFlight.
    """
    raise NotImplementedError


def finish(
    tx: Session, *, key: str, scope: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Store the answer; the first one stays."""
    raise NotImplementedError


def forget(tx: Session, *, key: str, scope: str) -> None:
    """The request created nothing: let the key be used again."""
    raise NotImplementedError
