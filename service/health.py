"""Whether the service can serve, and what is degraded meanwhile."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import redis

from service.broker import client
from service.gauges import Moment
from service.inference.admission import QueueFull
from service.refusals import ServingUnavailable
from service.state import Services
from service.store import Blobs, damage, figures

STORE_S = 3.0
BLOBS_EVERY_S = 5.0
PROBE_THREADS = 4
"""A store that hangs may hold so many threads of probes; the others do not wait for it."""
UNATTENDED_S = 60.0
"""A job that waits so long while none is at work: no worker takes any. Twice as long as it takes to tell them again."""
STUCK_S = 2.0
"""An image takes milliseconds: decoders that are all busy for seconds with the same ones do not come along."""
PING_S = 0.5
PING_EVERY_S = 2.0

logger = logging.getLogger(__name__)


@dataclass
class BrokerWatch:
    """Whether the broker answers; asked at most every few seconds."""

    url: str
    _asked: float = -PING_EVERY_S
    _alive: bool = False
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(PROBE_THREADS))

    def alive(self) -> bool:
        """The last answer, or a new one."""
        if time.monotonic() - self._asked >= PING_EVERY_S:
            self._alive = ping(self.url)
            self._asked = time.monotonic()
        return self._alive


@dataclass
class BlobWatch:
    """Whether the blob store answers; asked at most every few seconds. Who comes meanwhile gets the last answer."""

    blobs: Blobs
    _asked: float = -BLOBS_EVERY_S
    _asking: bool = False
    _alive: bool = True

    def alive(self) -> bool:
        """The last answer, or a new one; a question that is open for long is an answer too."""
        silence_s = time.monotonic() - self._asked
        if self._asking:
            return self._alive and silence_s < STORE_S
        if silence_s >= BLOBS_EVERY_S:
            self._asked, self._asking = time.monotonic(), True
            self._alive = self._answers()
            self._asking = False
        return self._alive

    def _answers(self) -> bool:
        try:
            self.blobs.ping()
        except Exception as error:
            logger.error("the blob store does not answer: %s", type(error.__cause__ or error).__name__)
            return False
        return True


def ping(url: str) -> bool:
    """Whether the Redis of ``url`` answers within half a second; with Sentinels, the one that they call master."""
    if not url:
        return False
    try:
        with client(url, timeout_s=PING_S) as asked:
            return bool(asked.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def look(app: Services, broker: BrokerWatch, blobs: BlobWatch) -> Moment:
    """What is true of this process now."""
    handles = app.serving.registry.handles
    return Moment(
        encoders_loaded=len(handles),
        encoders_loaded_bytes=sum(handle.loaded.size_bytes for handle in handles),
        images_waiting=app.serving.waiting,
        ingestions=app.ingestions.at_work,
        event_streams=app.broadcaster.streams,
        broker_up=broker.alive(),
        blobs_up=blobs.alive(),
        data_free_bytes=shutil.disk_usage(app.settings.data_dir).free,
    )


async def degraded(app: Services, broker: BrokerWatch, blobs: BlobWatch) -> list[str]:
    """What does not work but does not stop the serving. Raises ServingUnavailable if the store or a pass fails."""
    try:
        async with asyncio.timeout(STORE_S):
            stored = await anyio.to_thread.run_sync(
                _of_store, app, abandon_on_cancel=True, limiter=broker.threads
            )
    except Exception as error:
        logger.error("the store does not answer: %s", type(error).__name__)
        raise ServingUnavailable("The store does not answer.") from error
    alive = await asyncio.gather(*(_alive(watch, broker.threads) for watch in (broker, blobs)))
    found = [name for name, lives in zip(("broker", "blobs"), alive, strict=True) if not lives]
    try:
        await app.serving.probe()
    except QueueFull:
        found.append("queue_full")
    except Exception as error:
        logger.exception("a forward pass failed")
        raise ServingUnavailable("A forward pass failed.") from error
    if app.serving.decoder.stuck_s() > STUCK_S:
        found.append("decoding_stuck")
    return found + stored


async def _alive(watch: BrokerWatch | BlobWatch, threads: anyio.CapacityLimiter) -> bool:
    """What ``watch`` says; a directory on a network's disk may hang, and then it is away."""
    try:
        async with asyncio.timeout(STORE_S):
            return await anyio.to_thread.run_sync(watch.alive, abandon_on_cancel=True, limiter=threads)
    except TimeoutError:
        return False


def _of_store(app: Services) -> list[str]:
    """What the database says is degraded; also asks whether it answers."""
    with app.store.session() as tx:
        found = [f"encoder_damaged: {name}" for name in damage.labels(tx)]
        return [*found, "jobs_unattended"] if figures.unattended_s(tx) > UNATTENDED_S else found
