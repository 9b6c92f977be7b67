"""What one key may leave behind: queued jobs and stored bytes, counted in the database over all processes.

Requests of one key wait for each other on the row of the key, so that two of them cannot both take the last place.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from service.errors import QuotaExceeded
from service.settings import Settings
from service.store import datasets, encoders, jobs, keys
from service.store.audit import By

RETRY_S = 60


def check_jobs(settings: Settings, tx: Session, by: By) -> None:
    """Whether the key may queue one more job. Raises QuotaExceeded."""
    most = settings.key_queued_jobs
    if not most or not by.is_key:
        return
    keys.lock(tx, by.who)
    waiting = jobs.count_waiting(tx, created_by=by.who)
    if waiting >= most:
        raise QuotaExceeded(
            f"{waiting} jobs of this key are queued, and it may queue {most}; wait until some have started, "
            "or cancel them.",
            retry_after_s=RETRY_S,
        )


def check_bytes(settings: Settings, tx: Session, by: By, more: int) -> None:
    """Whether the key may store so many bytes more. Raises QuotaExceeded."""
    if not settings.key_stored_bytes or not by.is_key:
        return
    keys.lock(tx, by.who)
    left = left_bytes(settings, tx, by)
    if left is not None and more > left:
        raise too_many_bytes(settings, left, more)


def check_training(settings: Settings, tx: Session, by: By) -> None:
    """Whether the key may store anything more, as a training would. Raises QuotaExceeded."""
    if not settings.key_stored_bytes or not by.is_key:
        return
    keys.lock(tx, by.who)
    left = left_bytes(settings, tx, by)
    if left is not None and left <= 0:
        most = settings.key_stored_bytes
        raise QuotaExceeded(
            f"The datasets and encoders of this key hold {most - left} bytes, and it may store {most}; delete those "
            "that are no longer needed before you train another encoder.",
            retry_after_s=RETRY_S,
        )


def left_bytes(settings: Settings, tx: Session, by: By) -> int | None:
    """Bytes that the key may store beyond the datasets and encoders it has, negative over its quota; None: any."""
    if not settings.key_stored_bytes or not by.is_key:
        return None
    return settings.key_stored_bytes - datasets.bytes_of(tx, by.who) - encoders.bytes_of(tx, by.who)


def too_many_bytes(settings: Settings, left: int, more: int) -> QuotaExceeded:
    """The refusal of ``more`` bytes where ``left`` are left."""
    most = settings.key_stored_bytes
    return QuotaExceeded(
        f"The datasets and encoders of this key hold {most - left} bytes, these are {more} more, and it may store "
        f"{most}; delete those that are no longer needed.",
        retry_after_s=RETRY_S,
    )
