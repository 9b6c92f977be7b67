"""Something done again and again while a block of code is at work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def meanwhile(action: Callable[[], object], *, every_s: float, name: str) -> Iterator[None]:
    """``action()`` every so many seconds, on a thread of this name; one that fails is logged, the next may succeed."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every_s):
            try:
                action()
            except Exception:
                logger.warning("%s failed; it is tried again", name, exc_info=True)

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
