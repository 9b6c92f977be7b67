"""The Celery application of the workers: ``make_app(settings)``.

The queue is a bell. A message is acknowledged after its task (``acks_late``), so a killed worker's message comes back
after the visibility timeout; that this may deliver it twice is harmless, because a job needs a lease. One task at a
time runs in the worker's own process (``solo``): there is no pool process between worker and training that could
outlive a kill -9, and nothing waits prefetched in a busy worker.

On SIGTERM Celery sets ``should_stop`` and waits for the task, which sees it (``tasks.draining``), lets the training
write a checkpoint and puts the job back into the queue. That is the soft shutdown; Celery's own one (SIGTERM remapped
to SIGQUIT) would sleep inside the signal handler of a solo worker, where the task cannot move.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Queue

from service.broker import address
from service.queue import QUEUE, transport_options
from service.settings import Settings
from worker.hearing import Hearing
from worker.strangers import CONSUMER

VISIBILITY_S = 3600
"""A message that its worker did not acknowledge is delivered again after this."""


def make_app(settings: Settings) -> Celery:
    """The application, without tasks. Raises ValueError without a broker."""
    if not settings.broker_url:
        raise ValueError("a worker needs a broker: set NIDIM_BROKER_URL, or use `nidim up`")
    broker = address(settings.broker_url)
    app = Celery("nidim.worker", broker=broker.url, set_as_current=False)
    app.conf.update(_consuming(), **_broker(broker.options), **_quiet())
    app.steps["consumer"].add(Hearing)
    return app


def _consuming() -> dict[str, Any]:
    return {
        "task_queues": [Queue(QUEUE)],
        "task_default_queue": QUEUE,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_pool": "solo",
        "worker_concurrency": 1,
        "worker_consumer": CONSUMER,
    }


def _broker(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a broker may be away for long; the worker waits
        "broker_connection_timeout": 5.0,
        "broker_transport_options": {
            **transport_options(),
            **options,
            "visibility_timeout": VISIBILITY_S,
            "socket_connect_timeout": 5.0,
            "socket_timeout": 10.0,
            "retry_on_timeout": True,
            "health_check_interval": 5,  # a connection that a firewall forgot is given up about so many seconds later
        },
    }


def _quiet() -> dict[str, Any]:
    """JSON only, no results, no remote control: a message can name a job and do nothing else."""
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }
