"""The bell: tells the workers that a job waits, by task name and job id, nothing else.

The message is no truth: it may be lost, doubled or late, and the reaper rings again. So a publication is tried once,
over a fresh connection with short timeouts, and a dead broker costs a client about a second at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeAlias

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.broker import address

TASK = "worker.train"
QUEUE = "nidim"
PRIORITIES = {"high": 0, "normal": 3, "low": 6}
"""Names of the API to Redis priorities of Celery, where the smallest comes first."""
TIMEOUT_S = 1.0
FAILURES = (OperationalError, RedisError, OSError)
"""Of a broker that is away, full or breaks."""

Publish: TypeAlias = Callable[[str, str], bool]
"""(job id, priority) -> whether the broker took it."""

logger = logging.getLogger(__name__)


def transport_options() -> dict[str, Any]:
    """What publisher and worker must agree on."""
    return {"priority_steps": sorted(PRIORITIES.values()), "sep": ":", "queue_order_strategy": "priority"}


def publish(broker_url: str, job_id: str, priority: str = "normal") -> bool:
    """Send the task; False if the broker did not take it within about a second, or if there is no broker yet."""
    with publisher(broker_url) as send:
        return send(job_id, priority)


@contextmanager
def publisher(broker_url: str) -> Iterator[Publish]:
    """Like :func:`publish`, for some jobs one after the other over one connection, which ends with the context."""
    if not broker_url:
        yield lambda *_: False
        return
    app = _app(broker_url)
    connection = app.connection_for_write(heartbeat=0)
    producer: Any = None

    def send(job_id: str, priority: str) -> bool:
        nonlocal producer
        try:
            producer = producer or app.amqp.Producer(connection, auto_declare=False)
            app.send_task(
                TASK,
                kwargs={"job_id": job_id},
                queue=QUEUE,
                priority=PRIORITIES[priority],
                producer=producer,
                ignore_result=True,
                retry=False,
            )
        except FAILURES as error:
            logger.warning("job %s was not published, the reaper will try again: %s", job_id, error)
            return False
        return True

    try:
        yield send
    finally:
        with suppress(*FAILURES):
            connection.release()


@lru_cache(maxsize=4)
def _app(broker_url: str) -> Celery:
    """An application that knows no task, only how to reach the broker."""
    broker = address(broker_url)
    app = Celery("nidim", broker=broker.url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        task_publish_retry=False,
        broker_connection_retry=False,
        broker_connection_timeout=TIMEOUT_S,
        broker_transport_options={
            **transport_options(),
            **broker.options,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            "retry_on_timeout": False,
            "max_retries": 0,
        },
    )
    return app
