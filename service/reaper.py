"""The reaper: brings lost jobs back to the queue; one of all API processes does it at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.store import Store

Publish = Callable[[str, str], bool]
"""(job id, priority) -> whether the broker took it."""


class ReaperSettings(Protocol):
    """The settings that the reaper needs."""

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

    def run_once(self) -> ReapResult:
        """One look, if the reaper's lease is ours."""
        raise NotImplementedError

    def run_forever(self, stop: threading.Event) -> None:
        """Look every ``reaper_every_s`` until told to stop; errors are logged, never raised."""
        raise NotImplementedError
