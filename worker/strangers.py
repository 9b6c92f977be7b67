"""Strangers: messages in our queue that are not our task, which Celery drops by itself; here they are counted.

another task, by whatever name              Celery's signal task_unknown
no task at all, or no arguments             task_rejected
a body that cannot be decoded as JSON       no signal: the consumer itself is told
"""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from celery.worker.consumer import Consumer

from service.store import Store, counters

log = logging.getLogger(__name__)

CONSUMER = f"{__name__}:Hearer"


class Hearer(Consumer):
    """Celery's consumer, which says that it dropped a message that it could not decode."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Acknowledged, so that it does not come again; what is in it is nobody's business, not even the log's."""
        log.warning("a message that cannot be decoded is dropped (%s)", type(exc).__name__)
        message.ack()
        signals.task_rejected.send(sender=self, message=message, exc=exc)


def count(store: Store) -> None:
    """From now on every stranger of this process is counted."""

    def stranger(**_: Any) -> None:
        counters.note(store, counters.MESSAGES_DROPPED, counters.FOREIGN)

    for signal in (signals.task_unknown, signals.task_rejected):
        signal.connect(stranger, weak=False)
