"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 60.0
"""Long enough for a busy machine; nobody waits so long for what goes well."""


def wait_for(condition: Callable[[], Any], seconds: float = SECONDS, *, every_s: float = 0.05) -> Any:
    """What ``condition`` gives as soon as it is true; what it gives at the end otherwise."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return found
