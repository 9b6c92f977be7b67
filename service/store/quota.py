"""The disk quota: bytes of everything that a row refers to, and what the file system still has.

Uploads are refused over it, checkpoints are left out. A trained encoder is always stored: it is what the work was for.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session

from service.errors import QuotaExceeded, StorageFull
from service.store import references

RETRY_S = 60
ADVISORY_LOCK = 0x6E6964696E  # "nidin", next to the one of migrations
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class QuotaSettings(Protocol):
    """The settings that the quota needs; 0: no bound."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def disk_quota_bytes(self) -> int: ...
    @property
    def disk_reserve_bytes(self) -> int: ...


def check(tx: Session, settings: QuotaSettings, more: int) -> None:
    """Whether ``more`` bytes may be stored; nobody else may be told yes before the commit. Raises QuotaExceeded."""
    if not settings.disk_quota_bytes:
        return
    if tx.get_bind().dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    left = left_bytes(tx, settings)
    if left is not None and more > left:
        raise QuotaExceeded(
            f"These are {more} bytes and {left} are left of this server's disk quota; delete datasets, encoders or "
            "old jobs that are no longer needed, or ask its operator for more.",
            retry_after_s=RETRY_S,
        )


def left_bytes(tx: Session, settings: QuotaSettings) -> int | None:
    """Bytes left of the quota, never below 0; None: there is no quota."""
    if not settings.disk_quota_bytes:
        return None
    return max(0, settings.disk_quota_bytes - references.used_bytes(tx))


def check_disk(settings: QuotaSettings, more: int = 0) -> None:
    """Whether the file system of the data directory takes ``more`` bytes and keeps its reserve. Raises StorageFull."""
    if settings.disk_reserve_bytes and disk_left_bytes(settings) < more:
        raise StorageFull(retry_after_s=RETRY_S)


def disk_left_bytes(settings: QuotaSettings) -> int:
    """Free bytes of the data directory's file system beyond the reserve; negative: the reserve is in use."""
    return shutil.disk_usage(settings.data_dir).free - settings.disk_reserve_bytes


def is_full(error: BaseException | None) -> bool:
    """Whether the system refused a write for want of room."""
    return isinstance(error, OSError) and error.errno in FULL
