"""Hearing: a step of the Celery consumer that notices a worker gone deaf, and lets it connect anew.

If Redis is away at the moment when a finished task is acknowledged, Celery logs that and keeps counting the message
as one in work. With a prefetch of one nothing is ever fetched again: the process lives, connected and deaf. The timer
here fires between tasks only (a solo worker runs a task inside its event loop), so a channel that may not fetch while
no task is known to Celery has such a leftover. The message itself is delivered again after the visibility timeout and
then dropped, because its job has ended.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state

from worker import gate

EVERY_S = 2.0


class Hearing(bootsteps.StartStopStep):
    """Looks every two seconds whether the worker could hear a message."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    timer: Any = None

    def start(self, consumer: Any) -> None:
        """After each connection: nothing is read before the consumer's loop, which starts last."""
        gate.install(consumer.task_consumer.channel)
        self.timer = consumer.timer.call_repeatedly(EVERY_S, look, (consumer,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002
        """Before each new connection."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    shutdown = stop


def look(consumer: Any) -> None:
    """Raises ConnectionError, upon which Celery connects anew, if nothing can be fetched though nothing is in work."""
    channel_is_full = not consumer.task_consumer.channel.qos.can_consume()
    if channel_is_full and not state.reserved_requests and not state.active_requests:
        raise ConnectionError("an acknowledgement was lost; connecting anew")
