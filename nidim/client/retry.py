"""When a request is sent again, and how long after: full jitter, never earlier than Retry-After says.

Only requests that are safe to repeat come here. The waits of one request, tries included, end after ``total_s``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from nidim.client.errors import IN_FLIGHT, NidimServerError

STATUSES = frozenset({429, 502, 503, 504})
LASTING = frozenset({"encoder_damaged", "forward_failed"})
"""Codes of 503 that another try meets again."""


def _random() -> float:
    return random.random()


@dataclass(frozen=True)
class RetryPolicy:
    """Waits uniform in [0, min(``most_s``, ``base_s``·2^(k−1))] after try k, on top of Retry-After.

    There is no further try where it would begin later than ``total_s`` after the first one; 0: a single try.
    """

    total_s: float = 60.0
    base_s: float = 0.2
    most_s: float = 10.0
    random: Callable[[], float] = field(default=_random, repr=False)

    def jitter_s(self, tries: int) -> float:
        """The wait after so many failed tries."""
        return self.random() * min(self.most_s, self.base_s * 2 ** min(tries - 1, 30))


class Tries:
    """The tries of one request."""

    def __init__(self, policy: RetryPolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._clock = policy, clock
        self._began_s, self.failed = clock(), 0

    def after(self, error: NidimServerError | None) -> float | None:
        """Seconds until the next try after ``error`` (None: no answer came); None: give up."""
        self.failed += 1
        if error is not None and not is_passing(error):
            return None
        asked_s = (error.retry_after_s or 0.0) if error is not None else 0.0
        wait_s = asked_s + self._policy.jitter_s(self.failed)
        left_s = self._policy.total_s - (self._clock() - self._began_s)
        return wait_s if wait_s < left_s else None


def is_passing(error: NidimServerError) -> bool:
    """Whether the same request may succeed a moment later."""
    return error.code == IN_FLIGHT or (error.status in STATUSES and error.code not in LASTING)


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Retry-After as seconds from now, whether it says seconds or a date (RFC 9110); None where it says neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
