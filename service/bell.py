"""Publishing after the commit, in the background: nobody waits for a broker that is down."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeAlias

from service.queue import Publish
from service.store import Store, counters, jobs
from service.tracing import Tracer

MAX_UNSENT = 100
PAUSE_S = 0.05
"""After a batch: who comes meanwhile shares the next."""

Waiting: TypeAlias = tuple[contextvars.Context, str, str]
"""In which context a job was submitted, its id, its priority."""

logger = logging.getLogger(__name__)


class Bell:
    """Tells the workers about jobs, one batch after the other; what is not published here, the reaper publishes later.

    Jobs that come while a batch is sent, and shortly after, make the next one: they share the transaction that notes
    them, and the connection to the broker, which ends when nobody came for a moment. So many submissions a second
    cost less each than few.
    """

    def __init__(
        self, store: Store, publisher: Callable[[], AbstractContextManager[Publish]], tracer: Tracer
    ) -> None:
        self._store, self._publisher, self._tracer = store, publisher, tracer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bell")
        self._guard = threading.Lock()
        self._waiting: list[Waiting] = []
        self._sending = False
        """Whether the thread will look at what waits before it rests."""

    def ring(self, job: jobs.Job) -> None:
        """Tell the workers about ``job``."""
        with self._guard:
            if len(self._waiting) >= MAX_UNSENT:
                return
            self._waiting.append((contextvars.copy_context(), job.id, job.priority))
            if self._sending:
                return
            self._sending = True
        self._thread.submit(self._send_waiting)

    def close(self) -> None:
        """End the thread; what it has not begun to send, the reaper publishes."""
        with self._guard:
            self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _send_waiting(self) -> None:
        while batch := self._batch():
            try:
                self._send_over_one_connection(batch)
            except Exception:
                logger.exception("not all jobs were published; the reaper will")

    def _batch(self) -> list[Waiting]:
        """All that wait; where nobody does, who comes next has to wake the thread."""
        with self._guard:
            batch, self._waiting = self._waiting, []
            self._sending = bool(batch)
            return batch

    def _send_over_one_connection(self, batch: Sequence[Waiting]) -> None:
        with self._publisher() as publish:
            while batch:
                whole = self._send(publish, batch)
                time.sleep(PAUSE_S)
                batch = self._batch() if whole else []

    def _send(self, publish: Publish, batch: Sequence[Waiting]) -> bool:
        """Whether the broker took all; after the first that it did not, the rest would fail a second later each."""
        sent: list[str] = []
        for context, job_id, priority in batch:
            if not context.run(self._publish, publish, job_id, priority):
                break
            sent.append(job_id)
        if sent:
            with self._store.begin(short=True) as tx:
                jobs.mark_published(tx, sent)
        if len(sent) < len(batch):
            counters.note(self._store, counters.PUBLISH_FAILURES)
        return len(sent) == len(batch)

    def _publish(self, publish: Publish, job_id: str, priority: str) -> bool:
        with self._tracer.span("publish", kind="producer", job_id=job_id) as span:
            taken = publish(job_id, priority)
            if not taken:
                span.fail("the broker did not take it")
            return taken
