"""Uploads while they arrive: so many at a time, and not a byte more than there is room for.

Every piece is asked for before it is written, and all receivers of this process are counted together. What lies on the
disk already the file system knows, of every process; the quotas know what the database has, and what arrives is added
to it. Nothing is promised here: whether the whole file may be kept is decided exactly when it becomes a dataset.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service import quotas
from service.errors import QuotaExceeded
from service.refusals import Overloaded, TooManyInFlight
from service.settings import Settings
from service.store import Store, quota
from service.store.audit import By

FORM_BYTES = 64 << 10
"""Most that the form around an uploaded file takes."""
LOOK_EVERY_S = 1.0
"""How old what is known of the database may be."""
RETRY_S = 10


@dataclass(frozen=True)
class _Left:
    """Bytes that the database leaves to a key and to this server, as looked up lately; None: any."""

    key: int | None
    server: int | None
    until: float


class Arrivals:
    """The uploads that this process is receiving. From any thread."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._open: list[Arrival] = []
        self._lock = threading.Lock()

    @contextmanager
    def one(self, by: By) -> Iterator[Arrival]:
        """Receive one upload. Raises Overloaded, TooManyInFlight where too many arrive, in all or of this key."""
        arrival = Arrival(self, by)
        with self._lock:
            self._check_number(by)
            self._open.append(arrival)
        try:
            yield arrival
        finally:
            with self._lock:
                self._open.remove(arrival)

    def admit(self, arrival: Arrival, more: int) -> None:
        """Count ``more`` bytes of ``arrival``, about to be written. Raises StorageFull, QuotaExceeded."""
        left = self._left(arrival)
        with self._lock:
            arrival.received += more
            arrival.writing = more
            self._check(arrival.by, left)

    def expect(self, arrival: Arrival, size: int) -> None:
        """Whether a body of ``size`` bytes could come. Raises StorageFull, QuotaExceeded."""
        quota.check_disk(self._settings, size)
        left = self._left(arrival)
        with self._lock:
            self._check(arrival.by, left, max(size - FORM_BYTES, 1))

    def _check_number(self, by: By) -> None:
        """One key cannot hold the places of all others, however slowly it sends."""
        mine = sum(one.by.who == by.who for one in self._open)
        if by.is_key and 0 < self._settings.key_receivers <= mine:
            raise TooManyInFlight(
                f"{mine} uploads of this key are arriving already; wait until one has ended.",
                retry_after_s=RETRY_S,
            )
        if len(self._open) >= self._settings.max_receivers:
            raise Overloaded("Too many uploads are arriving; try again later.", retry_after_s=RETRY_S)

    def _check(self, by: By, left: _Left, more: int = 0) -> None:
        quota.check_disk(self._settings, sum(one.writing for one in self._open))
        if left.server is not None and sum(one.received for one in self._open) + more > left.server:
            raise QuotaExceeded(retry_after_s=quota.RETRY_S)
        mine = sum(one.received for one in self._open if one.by.who == by.who) + more
        if left.key is not None and mine > left.key:
            raise quotas.too_many_bytes(self._settings, left.key, mine)

    def _left(self, arrival: Arrival) -> _Left:
        """Looked up outside of the lock: nobody waits for another one's look."""
        if arrival.left is None or time.monotonic() > arrival.left.until:
            with self._store.session() as tx:
                key = quotas.left_bytes(self._settings, tx, arrival.by)
                server = quota.left_bytes(tx, self._settings)
            arrival.left = _Left(key, server, time.monotonic() + LOOK_EVERY_S)
        return arrival.left


@dataclass(eq=False)
class Arrival:
    """One upload on its way: ``received`` bytes in all, of which ``writing`` are not on the disk yet."""

    arrivals: Arrivals
    by: By
    received: int = 0
    writing: int = 0
    left: _Left | None = None

    def expect(self, size: int) -> None:
        """Refuse a body of ``size`` bytes before it is read. Raises StorageFull, QuotaExceeded."""
        self.arrivals.expect(self, size)

    @contextmanager
    def room_for(self, more: int) -> Iterator[None]:
        """Write ``more`` bytes within. Raises StorageFull, QuotaExceeded."""
        self.arrivals.admit(self, more)
        try:
            yield
        finally:
            self.writing = 0
