"""API processes on one socket: whichever of them a scrape reaches answers for all.

What they count lies in one directory, in which prometheus_client keeps a file a process and adds them up, those of
processes that have ended included (its multiprocess mode). What is true of a moment each writes there as well, once a
second.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.gauges import Moment

EVERY_S = 1.0
FORGOTTEN_S = 10.0
"""A process that has not written for so long has ended, or hangs."""


class Siblings:
    """This process and those with which it shares ``directory``; None: there is only this one."""

    def __init__(self, directory: Path | None, look: Callable[[], Moment]) -> None:
        self._directory, self._look = directory, look

    def moments(self) -> dict[int, Moment]:
        """By process id, this process as it is now."""
        found = {} if self._directory is None else _written(self._directory)
        return {**found, os.getpid(): self._look()}

    def run_forever(self, stop: threading.Event) -> None:
        """Keep the others informed until ``stop``."""
        if self._directory is None:
            return
        path = self._directory / f"moment_{os.getpid()}.json"
        while not stop.is_set():
            with suppress(OSError):  # a full disk: the others do without
                _write(path, self._look())
            stop.wait(EVERY_S)
        path.unlink(missing_ok=True)


def _write(path: Path, moment: Moment) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(dataclasses.asdict(moment)))
    fresh.replace(path)


def _written(directory: Path) -> dict[int, Moment]:
    found = {}
    for path in directory.glob("moment_*.json"):
        with suppress(OSError, ValueError, TypeError):  # it ended meanwhile, or is of another version
            if time.time() - path.stat().st_mtime < FORGOTTEN_S:
                found[int(path.stem.removeprefix("moment_"))] = Moment(**json.loads(path.read_text()))
    return found
