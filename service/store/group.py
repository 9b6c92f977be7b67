"""Group commit: writers of one process that wait for each other share a transaction, and so one sync of the disk.

Each but the first works in a savepoint of its own, so what fails is undone alone. The last of those who wait commits,
and nobody is told that it has written before that commit: a group is as durable as its members would be, each by
itself. For short transactions of which many come at a time; one that takes long would make those before it wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.errors import StoreBusy
from service.store.turns import Turns

MOST = 64
"""Members of one group: who came first must not wait for ever."""


class Group:
    """One open transaction of several writers."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()
        try:
            self._transaction = self._connection.begin()
        except BaseException:
            self._connection.close()
            raise
        self.members = 0
        self._ended = threading.Event()
        self._error: BaseException | None = None

    @contextmanager
    def member(self) -> Iterator[Session]:
        """A session whose commit ends nothing, and whose rollback reaches as far as its own work."""
        self.members += 1
        mode: Any = "rollback_only" if self.members == 1 else "create_savepoint"
        with Session(self._connection, join_transaction_mode=mode) as session, session.begin():
            yield session

    @property
    def is_open(self) -> bool:
        """Whether there still is a transaction: SQLite itself ends one where the disk is full or fails."""
        try:
            driver: Any = self._connection.connection.driver_connection
        except SQLAlchemyError:  # the connection was given up
            return False
        return bool(getattr(driver, "in_transaction", False))

    def end(self) -> None:
        """Commit for all; the others learn of it, and of what went wrong, by :meth:`wait`."""
        try:
            if not self.is_open:
                raise StoreBusy(retry_after_s=1)
            self._transaction.commit()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ended.set()
            self._connection.close()

    def give_up(self) -> None:
        """Without a commit: the only member has failed."""
        self._connection.close()

    def wait(self) -> None:
        """Until the commit. Raises what went wrong there."""
        self._ended.wait()
        if self._error is not None:
            raise self._error


@contextmanager
def together(engine: Engine, turns: Turns[Group], timeout_s: float) -> Iterator[Session]:
    """A transaction that is committed with those of others who wait. Raises StoreBusy."""
    inherited = turns.take(timeout_s, heir=True)
    try:
        group = inherited or Group(engine)
    except BaseException:
        turns.pass_on()
        raise
    try:
        with group.member() as session:
            yield session
    except BaseException:
        _leave(group, turns, failed=True)
        raise
    if _leave(group, turns):
        group.wait()


def _leave(group: Group, turns: Turns[Group], *, failed: bool = False) -> bool:
    """Hand the group over, or end it and pass the turn on; whether somebody else will end it."""
    handed = False
    try:
        handed = group.is_open and group.members < MOST and turns.hand_over(group)
        if not handed and failed and group.members == 1:
            group.give_up()
        elif not handed:
            group.end()
    finally:
        if not handed:
            turns.pass_on()
    return handed
