"""Gate: which items of the queue's list reach Celery at all.

Whoever can write to Redis can put any bytes there. Kombu parses an item and Celery reads its headers before anything
of ours is asked, and an exception on that way ends the worker: one forged item, one worker less. So an item that is
no message of the kind that ``service.queue`` writes is dropped here, and so is one that breaks something further on;
both are reported as rejected, and counted there (``worker.strangers``). What is in a message is judged later, against
the database.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from queue import Empty
from typing import Any

from celery import signals
from celery.worker import state

log = logging.getLogger(__name__)

PLAIN_HEADERS = (
    *("eta", "expires", "group", "group_index", "chord", "compression", "retries", "shadow"),
    *("stamped_headers", "stamps", "replaced_task_nesting"),
)
"""Of Celery's features we use none; a message that asks for one is not ours."""


def install(channel: Any) -> None:
    """Put the gate before this channel of kombu's Redis transport; a new connection has a new channel."""
    transport, read = channel.connection, channel.handlers["BRPOP"]
    deliver = transport._deliver

    def guarded_deliver(message: Any, queue: str) -> None:
        if not is_message(message):
            raise ValueError("not a message of ours")
        deliver(message, queue)

    def guarded_read(**options: Any) -> Any:
        held = set(channel.qos._delivered)
        try:
            return read(**options)
        except (Empty, *channel.connection_errors):
            raise
        except Exception as error:
            _drop(channel, held, error)
            raise Empty from None

    transport._deliver, channel.handlers["BRPOP"] = guarded_deliver, guarded_read


def is_message(message: Any) -> bool:
    """Whether kombu and Celery can read it without stumbling: right types in the right places, nothing extra asked."""
    match message:
        case {
            "body": str(body),
            "content-type": str(),
            "content-encoding": str(),
            "headers": {"task": str(), "id": str(), **headers},
            "properties": {
                "delivery_tag": str(),
                "delivery_info": {"exchange": str(), "routing_key": str()},
                "body_encoding": "base64",
            },
        }:
            plain = not any(headers.get(name) for name in PLAIN_HEADERS)
            return plain and _is_untimed(headers) and _is_plain_call(body)
    return False


def _is_plain_call(body: str) -> bool:
    """Named arguments and nothing that is to happen afterwards: a chain or a callback would be sent by the worker."""
    match json.loads(base64.b64decode(body, validate=True)):
        case [[], {**arguments}, {**afterwards}]:
            return "self" not in arguments and not any(afterwards.values())
    return False


def _is_untimed(headers: Mapping[object, object]) -> bool:
    return headers.get("timelimit") in (None, [None, None])


def _drop(channel: Any, held: set[str], error: Exception) -> None:
    """Forget the item, also where kombu keeps it for a redelivery."""
    log.warning("an item of the queue that is no message of ours is dropped (%s)", type(error).__name__)
    state.reserved_requests.clear()  # a solo worker reads only between tasks; what is left would make it deaf
    state.active_requests.clear()
    for tag in set(channel.qos._delivered) - held:
        channel.qos.reject(tag, requeue=False)
    signals.task_rejected.send(sender=channel, message=None, exc=error)
