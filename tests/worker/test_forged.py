"""Messages that no client of ours would send, put into Redis by hand: dropped and counted, and the worker goes on.

Whoever can write to Redis can put any bytes into the queue's list, not only what Celery would serialise. Each of these
items must cost one item: the worker takes the next job afterwards, in the same process.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
import redis

from service.queue import QUEUE, TASK, publish
from service.settings import Settings
from service.store import counters
from tests.waiting import wait_for

pytestmark = pytest.mark.embedded


@pytest.fixture
def settings(broker_settings: Settings) -> Settings:
    return broker_settings


def body(*content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def message(**changes: Any) -> dict[str, Any]:
    """As Celery writes it, but for ``changes``."""
    return {
        "body": body([], {"job_id": "job_" + "0" * 26}, {}),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": TASK, "id": "x", "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "body_encoding": "base64",
            "priority": 0,
            "correlation_id": "x",
            "reply_to": "y",
        },
        **changes,
    }


def properties(**changes: Any) -> dict[str, Any]:
    return {**message()["properties"], **changes}


FORGED: dict[str, Any] = {
    "no JSON": b"garbage",
    "no bytes": b"",
    "no UTF-8": b"\xff\xfe\x00",
    "a number": b"7",
    "a null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "no properties": message(properties=None),
    "no delivery tag": message(properties={}),
    "a delivery tag that is a list": message(properties=properties(delivery_tag=[1])),
    "delivery information that is a number": message(properties=properties(delivery_info=3)),
    "a priority that is a word": message(properties=properties(priority="first")),
    "an encoding that does not exist": message(properties=properties(body_encoding="rot13")),
    "a body that is not base64": message(body="%%%"),
    "a body that is a number": message(body=5),
    "a body that is no JSON": message(body=base64.b64encode(b"{").decode()),
    "a body that is an object": message(body=base64.b64encode(b'{"a": 1}').decode()),
    "a body with positions": message(body=body(["job"], {}, {})),
    "arguments that are a null": message(body=body([], None, {})),
    "arguments that are a number": message(body=body([], 5, {})),
    "an argument named self": message(body=body([], {"self": "x", "job_id": "x"}, {})),
    "a number afterwards": message(body=body([], {"job_id": "x"}, 5)),
    "a chain that is a word": message(body=body([], {"job_id": "x"}, {"chain": "x"})),
    "a chain": message(body=body([], {"job_id": "x"}, {"chain": [{"task": "os.system", "args": ["true"]}]})),
    "stamps that are a number": message(headers={**message()["headers"], "stamped_headers": 5}),
    "headers that are a list": message(headers=[]),
    "headers that are a word": message(headers="task"),
    "a task that is a list": message(headers={"task": ["x"], "id": "x"}),
    "a task without an id": message(headers={"task": TASK}),
    "another task": message(headers={"task": "celery.backend_cleanup", "id": "x"}),
    "another task without an id": message(headers={"task": "os.system"}),
    "a time that is none": message(headers={**message()["headers"], "eta": "soon"}),
    "a time in the year 9999": message(headers={**message()["headers"], "eta": "9999-12-31T23:59:59"}),
    "a time that it ran out": message(headers={**message()["headers"], "expires": []}),
    "a time limit": message(headers={**message()["headers"], "timelimit": "xx"}),
    "pickled content": message(**{"content-type": "application/x-python-serialize"}),
    "compressed content": message(headers={**message()["headers"], "compression": "application/x-gzip"}),
    "content of no type": message(**{"content-type": None}),
    "an encoding of no kind": message(**{"content-encoding": "klingon"}),
}


def raw(item: Any) -> bytes:
    return item if isinstance(item, bytes) else json.dumps(item).encode()


def test_whatever_lies_in_the_queue_costs_one_message_and_no_worker(
    bench: Any, settings: Settings, broker: Any, workers: Any
) -> None:
    worker = workers.start("succeed")
    first = bench.job()
    publish(settings.broker_url, first.id, "normal")
    assert wait_for(lambda: bench.read(first).state == "succeeded")
    for name, item in FORGED.items():
        with redis.Redis(unix_socket_path=str(broker.socket)) as client:
            client.lpush(QUEUE, raw(item))
        assert wait_for(lambda: broker.waiting() == 0), f"not taken: {name}"
        time.sleep(0.1)
        assert worker.poll() is None, f"{name} ended the worker:\n{workers.log.read_text()[-3000:]}"
    job = bench.job(encoder="after")
    publish(settings.broker_url, job.id, "normal")
    assert wait_for(lambda: bench.read(job).state == "succeeded"), workers.log.read_text()[-3000:]
    with bench.store.session() as tx:
        counted = counters.read(tx)
    dropped = sum(figure for (family, _), figure in counted.items() if family == counters.MESSAGES_DROPPED)
    assert dropped >= len(FORGED)
