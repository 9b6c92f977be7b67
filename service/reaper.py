"""The reaper: brings lost jobs back to the queue; one of all API processes does it at a time.

It holds a lease in the database, on the database's clock; when its process dies, another one has it a few seconds
later. Two that both believe to have it do no harm: every change is a conditional UPDATE, and a message is only a bell.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from service.queue import Publish
from service.store import Store, counters, damage, jobs, retention, singletons
from service.store.ids import new_id

NAME = "reaper"
LEASE_ROUNDS = 3
"""The reaper's lease lasts for so many of its rounds."""

logger = logging.getLogger(__name__)


class ReaperSettings(retention.RetentionSettings, Protocol):
    """The settings that the reaper needs."""

    @property
    def lease_s(self) -> float: ...
    @property
    def reaper_every_s(self) -> float: ...
    @property
    def republish_after_s(self) -> float: ...
    @property
    def max_attempts_without_checkpoint(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class ReapResult:
    """What one look did; ``held`` is False where another process has the reaper's lease."""

    held: bool
    requeued: int = 0
    failed: int = 0
    cancelled: int = 0
    published: int = 0


class Reaper:
    """``Reaper(store, partial(queue.publish, settings.broker_url), settings)``."""

    def __init__(self, store: Store, publish: Publish, settings: ReaperSettings) -> None:
        self._store, self._publish, self._settings = store, publish, settings
        self._owner = new_id("reaper_")

    def run_once(self) -> ReapResult:
        """One look, if the reaper's lease is ours: judge in one transaction, then publish, then note it."""
        with self._store.begin() as tx:
            if not singletons.try_hold(tx, NAME, self._owner, LEASE_ROUNDS * self._settings.reaper_every_s):
                return ReapResult(held=False)
            reaped = jobs.reap(
                tx,
                max_attempts_without_checkpoint=self._settings.max_attempts_without_checkpoint,
                republish_after_s=self._settings.republish_after_s,
                lease_s=self._settings.lease_s,
            )
            _count(tx, reaped)
        return ReapResult(
            held=True,
            requeued=len(reaped.requeued),
            failed=len(reaped.failed),
            cancelled=len(reaped.cancelled),
            published=self._publish_all(reaped.publish),
        )

    def run_forever(self, stop: threading.Event) -> None:
        """Look every ``reaper_every_s`` until told to stop; errors are logged, never raised."""
        while not stop.is_set():
            self._guarded(self._round)
            stop.wait(self._settings.reaper_every_s)
        self._guarded(self._give_back)

    def _round(self) -> None:
        result = self.run_once()
        if result.requeued or result.failed or result.cancelled or result.published:
            logger.info("reaped: %s", result)
        if result.held:
            retention.tidy_if_due(self._store, self._settings)
            damage.recheck(self._store)

    def _publish_all(self, publications: tuple[jobs.Publication, ...]) -> int:
        """Publish until the broker fails once: it would fail a second each for the rest."""
        sent: list[str] = []
        for publication in publications:
            if not self._publish(publication.job_id, publication.priority):
                counters.note(self._store, counters.PUBLISH_FAILURES)
                break
            sent.append(publication.job_id)
        if sent:
            with self._store.begin() as tx:
                jobs.mark_published(tx, sent)
        return len(sent)

    def _give_back(self) -> None:
        with self._store.begin() as tx:
            singletons.release(tx, NAME, self._owner)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            logger.exception("the reaper goes on after an error")


def _count(tx: Session, reaped: jobs.Reaped) -> None:
    counters.add(tx, counters.LEASE_LOSSES, n=reaped.silent)
    for result in ("requeued", "failed", "cancelled"):
        counters.add(tx, counters.JOBS_REAPED, result, len(getattr(reaped, result)))
