"""Control: the thread that keeps the lease, sees a cancel, a drain or a lost lease, and stops the child for it.

It is a thread because storing a large checkpoint may take longer than a lease. Where there is no child to stop, as
a dataset is being fetched or a bundle stored, it ends a cancelled job itself; the attempt then writes nothing more.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.errors import LostLease
from service.settings import Settings
from service.store import Store, jobs
from service.store.jobs import Lease
from worker.process import Child

log = logging.getLogger(__name__)

TICK_S = 0.1
LOOK_EVERY_S = 0.3
"""How often the job's row is read for a cancel; a heartbeat writes, a look does not."""
CANCEL_GRACE_S = 1.2
"""A cancelled training is killed after this, or sooner if the setting says so: cancelling takes effect within 2 s."""
CANCEL_ANYWAY_S = CANCEL_GRACE_S + 0.4
"""An attempt that has not ended by then, though its training is gone, is ended from here."""


class Reason(enum.StrEnum):
    """Why the child is stopped, the weakest first."""

    DRAIN = "drain"
    CANCEL = "cancel"
    LOST = "lost"


STRENGTH = {None: 0, Reason.DRAIN: 1, Reason.CANCEL: 2, Reason.LOST: 3}


class Control:
    """Runs from ``with`` until its end; ``reason`` only ever grows stronger.

    ``ended``: the job was cancelled from here.
    """

    def __init__(
        self, store: Store, lease: Lease, settings: Settings, *, should_drain: Callable[[], bool]
    ) -> None:
        self.reason: Reason | None = None
        self.ended = False
        self._store, self._lease, self._settings = store, lease, settings
        self._should_drain = should_drain
        self._child: Child | None = None
        self._end_at = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beaten_at = time.monotonic()
        self._beat_at = self._beaten_at + settings.heartbeat_s
        self._look_at = self._beaten_at
        around = contextvars.copy_context()  # the fields of its log lines
        self._thread = threading.Thread(
            target=around.run, args=(self._run,), name=f"control-{lease.job_id}", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def attach(self, child: Child) -> None:
        """From now on this is the child to stop, at once if there is a reason already."""
        with self._lock:
            self._child = child
            if self.reason is not None:
                self._stop(child, self.reason)

    def stop_for(self, reason: Reason) -> None:
        """Stop the child for ``reason``, unless it is being stopped for a stronger one."""
        with self._lock:
            if STRENGTH[reason] <= STRENGTH[self.reason]:
                return
            log.info("job %s: stopping its training (%s)", self._lease.job_id, reason.value)
            self.reason = reason
            self._end_at = time.monotonic() + (0.0 if self._child is None else CANCEL_ANYWAY_S)
            if self._child is not None:
                self._stop(self._child, reason)

    def _stop(self, child: Child, reason: Reason) -> None:
        grace = self._settings.cancel_grace_s
        if reason is Reason.LOST:
            child.kill()
        else:
            child.stop(grace_s=min(grace, CANCEL_GRACE_S) if reason is Reason.CANCEL else grace)

    def _run(self) -> None:
        while not self.ended and not self._over.wait(TICK_S):
            if self._child is not None:
                self._child.enforce()
            if self._should_drain():
                self.stop_for(Reason.DRAIN)
            try:
                self._ask()
                self._end_if_cancelled()
            except (
                Exception
            ) as error:  # whatever it is: without this thread no cancel is seen and no lease kept
                log.warning("job %s: the database does not answer: %s", self._lease.job_id, error)
            if time.monotonic() - self._beaten_at > self._settings.lease_s:
                self.stop_for(Reason.LOST)

    def _ask(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = self._look_at = now + min(
                self._settings.heartbeat_s, 1.0
            )  # sooner if this one fails
            self._beat(now)
        elif now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look()

    def _end_if_cancelled(self) -> None:
        """End a cancelled job whose attempt is busy with something else than its training."""
        if self.reason is not Reason.CANCEL or time.monotonic() < self._end_at:
            return
        if self._child is not None and self._child.lives:
            return
        try:
            with self._store.begin() as tx:
                jobs.cancelled(tx, self._lease)
        except LostLease:  # the attempt was quicker, or another worker has the job
            self.stop_for(Reason.LOST)
        else:
            log.info("job %s: cancelled while there was no training to stop", self._lease.job_id)
            self.ended = True

    def _beat(self, now: float) -> None:
        with self._store.begin() as tx:
            answer = jobs.heartbeat(tx, self._lease, self._settings.lease_s)
        if not answer.alive:
            self.stop_for(Reason.LOST)
            return
        self._beaten_at, self._beat_at, self._look_at = (
            now,
            now + self._settings.heartbeat_s,
            now + LOOK_EVERY_S,
        )
        if answer.cancel_requested:
            self.stop_for(Reason.CANCEL)

    def _look(self) -> None:
        with self._store.session() as tx:
            job = jobs.get(tx, self._lease.job_id)
        if job is None or job.fence != self._lease.fence or job.state != "running":
            self.stop_for(Reason.LOST)
        elif job.cancel_requested:
            self.stop_for(Reason.CANCEL)
