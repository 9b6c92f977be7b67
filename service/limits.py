"""What one key may ask at a time: a token bucket for its requests a second, and a bound on those in flight.

Both live in the memory of one API process: N processes allow N times as much. What must hold over all of them, queued
jobs and stored bytes, is counted in the database instead (``service.quotas``). Without keys nothing is limited here:
who asks is this machine's own user.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from service.refusals import RateLimited, TooManyInFlight

LEAVE = "nidim.leave"
"""Where in the ASGI scope stands what is to be done when the answer has been sent."""
MOST = 4096


class LimitSettings(Protocol):
    """The settings of this module; 0: no limit."""

    @property
    def key_requests_per_s(self) -> float: ...
    @property
    def key_burst_requests(self) -> int: ...
    @property
    def key_concurrent_requests(self) -> int: ...


@dataclass
class _Account:
    tokens: float
    at: float
    in_flight: int = 0


class KeyLimits:
    """The accounts of all keys. For one event loop: nothing here waits, so nothing is locked."""

    def __init__(self, settings: LimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most = settings.key_requests_per_s, settings.key_concurrent_requests
        self._burst = float(max(1, settings.key_burst_requests))
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(self, key_id: str) -> Callable[[], None]:
        """Begin a request; call the result when it has been answered. Raises RateLimited, TooManyInFlight."""
        account = self._refilled(key_id)
        if self._most and account.in_flight >= self._most:
            raise TooManyInFlight(
                f"This key has {account.in_flight} requests in flight, the most that it may have; "
                "wait for their answers.",
                retry_after_s=1,
            )
        if self._rate:
            if account.tokens < 1:
                raise RateLimited(
                    f"This key may send {self._rate:g} requests a second; wait for Retry-After.",
                    retry_after_s=(1 - account.tokens) / self._rate,
                )
            account.tokens -= 1
        account.in_flight += 1
        return lambda: self._leave(account)

    def _refilled(self, key_id: str) -> _Account:
        moment = self._clock()
        account = self._accounts.get(key_id)
        if account is None:
            self._forget_idle()
            account = self._accounts[key_id] = _Account(tokens=self._burst, at=moment)
        account.tokens = min(self._burst, account.tokens + (moment - account.at) * self._rate)
        account.at = moment
        return account

    def _leave(self, account: _Account) -> None:
        account.in_flight -= 1

    def _forget_idle(self) -> None:
        """Of many keys, keep those that are at work or that have not been idle for a whole refill."""
        if len(self._accounts) < MOST:
            return
        full_s = self._burst / self._rate if self._rate else 0.0
        before = self._clock() - full_s
        self._accounts = {
            key_id: account
            for key_id, account in self._accounts.items()
            if account.in_flight or account.at > before
        }


class Leaving:
    """Calls what a request left under ``LEAVE``, once its answer has been sent or given up."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls: list[Callable[[], None]] = []
        scope[LEAVE] = calls
        try:
            await self.app(scope, receive, send)
        finally:
            for call in calls:
                call()
