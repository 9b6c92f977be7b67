"""Counters that outlive processes: what workers and servers count together.

A worker serves no HTTP, so what it counts goes where everything of it goes. Each counter is a row of ``singletons``,
``count/<family>/<label>``, whose owner is the figure and whose moment is that of the last change; ``FAMILIES`` lists
all there can be. Count last in a transaction: whoever holds a counter's row waits for no other row.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlalchemy import BigInteger, Text, cast, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.errors import StoreBusy
from service.store.clock import now
from service.store.store import Store
from service.store.tables import SingletonRow
from service.store.upsert import insert

ATTEMPTS_STARTED = "attempts_started"
ATTEMPTS_ENDED = "attempts_ended"
LEASE_LOSSES = "lease_losses"
JOBS_REAPED = "jobs_reaped"
PUBLISH_FAILURES = "publish_failures"
MESSAGES_DROPPED = "messages_dropped"
MALFORMED, FOREIGN, UNKNOWN_JOB, NOT_FREE = "malformed", "foreign", "unknown_job", "not_free"
"""Why a message was dropped: it names no job; it names another task; no such job; somebody has it or it has ended."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    ATTEMPTS_STARTED: ("",),
    ATTEMPTS_ENDED: ("succeeded", "failed", "cancelled", "released", "abandoned", "lost"),
    LEASE_LOSSES: ("",),
    JOBS_REAPED: ("requeued", "failed", "cancelled"),
    PUBLISH_FAILURES: ("",),
    MESSAGES_DROPPED: (MALFORMED, FOREIGN, UNKNOWN_JOB, NOT_FREE),
}
PREFIX = "count/"

logger = logging.getLogger(__name__)


def add(tx: Session, family: str, label: str = "", n: int = 1) -> None:
    """Raise a counter of ``FAMILIES`` by ``n``; nothing for 0. Raises ValueError for one that is not listed."""
    if label not in FAMILIES.get(family, ()):
        raise ValueError(f"no counter {family!r} with the label {label!r}")
    if n == 0:
        return
    raised = cast(cast(SingletonRow.owner, BigInteger) + n, Text)
    statement = insert(tx, SingletonRow).values(name=f"{PREFIX}{family}/{label}", owner=str(n), until=now())
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=[SingletonRow.name], set_={"owner": raised, "until": now()}
        )
    )


def note(store: Store, family: str, label: str = "") -> None:
    """Count one in a transaction of its own; a figure is no reason to fail, so what goes wrong is only logged."""
    try:
        with store.begin() as tx:
            add(tx, family, label)
    except (SQLAlchemyError, StoreBusy, OSError) as error:
        logger.warning("%s %s was not counted: %s", family, label, error)


def read(tx: Session) -> dict[tuple[str, str], int]:
    """Every counter, by family and label; 0 for what never happened."""
    query = select(SingletonRow.name, SingletonRow.owner).where(SingletonRow.name.startswith(PREFIX))
    found = {name.removeprefix(PREFIX): int(figure) for name, figure in tx.execute(query)}
    return {
        (family, label): found.get(f"{family}/{label}", 0)
        for family, labels in FAMILIES.items()
        for label in labels
    }
