"""Many writers: each gets its turn, in order, and none is told that the database is locked."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from service.errors import StoreBusy
from service.store import Store, audit, engine, jobs
from service.store.turns import Turns

RIVAL = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(0.02)
    connection.execute("COMMIT")
"""


def test_turns_are_taken_in_the_order_of_coming() -> None:
    turns, order = Turns(), []
    threads = []

    def work(number: int) -> None:
        with turns.turn(20):
            order.append(number)

    with turns.turn(1):
        for number in range(8):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_turn_that_does_not_come_is_given_up_and_lost_by_nobody() -> None:
    turns = Turns()
    with turns.turn(1):
        with ThreadPoolExecutor(4) as pool:
            waits = [pool.submit(lambda: turns.turn(0.05).__enter__()) for _ in range(4)]
        assert all(isinstance(wait.exception(), StoreBusy) for wait in waits)
    with turns.turn(0.1):
        pass


def test_an_error_passes_the_turn_on(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), store.begin():
            raise ZeroDivisionError
    with store.begin() as tx:
        assert tx.execute(text("SELECT 1")).scalar_one() == 1


def test_many_threads_write_and_nothing_is_lost(store: Store, new_job: Callable[..., jobs.Job]) -> None:
    with ThreadPoolExecutor(40) as pool:
        made = list(pool.map(lambda _: new_job(store).id, range(120)))
    with store.session() as tx:
        assert jobs.count_waiting(tx) == len(set(made)) == 120


def test_a_process_that_writes_all_the_time_does_not_keep_others_out(
    sqlite_store: Store, new_job: Callable[..., jobs.Job]
) -> None:
    path = sqlite_store.engine.url.database
    command = [sys.executable, "-c", RIVAL, str(path), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        for _ in range(10):
            new_job(sqlite_store)
        assert rival.poll() is None
        rival.kill()


def test_a_lock_that_stays_is_an_answer_for_later(
    sqlite_store: Store, new_job: Callable[..., jobs.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.1)
    other = sqlite3.connect(str(sqlite_store.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        new_job(sqlite_store)
    other.execute("ROLLBACK")
    other.close()
    monkeypatch.undo()
    assert new_job(sqlite_store)
    with sqlite_store.session() as tx:
        waits: Any = tx.execute(text("PRAGMA busy_timeout")).scalar_one()
    assert waits > 1000


def commits(store: Store) -> list[int]:
    """One entry a commit from now on."""
    seen: list[int] = []
    event.listen(store.engine, "commit", lambda _: seen.append(1))
    return seen


def at_once(store: Store, works: list[Callable[[Session], object]]) -> list[Future[object]]:
    """Short transactions, each begun while another writer has the turn, in this order."""

    def run(work: Callable[[Session], object]) -> object:
        with store.begin(short=True) as tx:
            return work(tx)

    pool = ThreadPoolExecutor(len(works))
    with store.begin():
        futures = []
        for number, work in enumerate(works):
            futures.append(pool.submit(run, work))
            while len(store._turns._waiting) <= number:
                time.sleep(0.001)
    pool.shutdown()
    return futures


@pytest.mark.parametrize("place", [0, 2, 3])
def test_short_transactions_that_wait_are_committed_as_one_and_a_failure_is_undone_alone(
    sqlite_store: Store, place: int
) -> None:
    def fails(tx: Session) -> None:
        audit.record(tx, audit.By("cli"), "key.create", "undone")
        raise ZeroDivisionError

    def writes(tx: Session) -> None:
        audit.record(tx, audit.By("cli"), "key.create", "kept")

    works = [writes] * 3
    works.insert(place, fails)
    seen = commits(sqlite_store)
    futures = at_once(sqlite_store, works)
    assert len(seen) == 1
    assert [number for number, future in enumerate(futures) if future.exception()] == [place]
    assert isinstance(futures[place].exception(), ZeroDivisionError)
    with sqlite_store.session() as tx:
        assert [entry.target for entry in audit.list_(tx).items] == ["kept"] * 3


def rolls_back(tx: Session) -> None:
    """What SQLite does by itself where the disk is full: the whole transaction is gone."""
    tx.connection().connection.driver_connection.execute("ROLLBACK")


def loses_the_connection(tx: Session) -> None:
    tx.connection().invalidate()


@pytest.mark.parametrize("spoils", [rolls_back, loses_the_connection])
def test_nobody_is_told_of_a_commit_that_failed(
    sqlite_store: Store, spoils: Callable[[Session], None]
) -> None:
    def writes(tx: Session) -> None:
        audit.record(tx, audit.By("cli"), "key.create", "lost")

    futures = at_once(sqlite_store, [writes, writes, spoils])
    assert all(future.exception() is not None for future in futures)
    futures = at_once(sqlite_store, [lambda tx: tx.execute(text("SELECT 1")).scalar_one()] * 2)
    assert [future.result() for future in futures] == [1, 1]
    with sqlite_store.session() as tx:
        assert audit.list_(tx).items == ()


def test_a_writer_of_its_own_is_not_drawn_into_a_group(sqlite_store: Store) -> None:
    seen, order = commits(sqlite_store), []

    def alone() -> None:
        with sqlite_store.begin() as tx:
            order.append(("alone", len(seen)))
            tx.execute(text("SELECT 1"))

    thread = threading.Thread(target=alone)

    def first(_: Session) -> None:
        thread.start()
        while not sqlite_store._turns._waiting:
            time.sleep(0.001)
        order.append(("first", len(seen)))

    with sqlite_store.begin(short=True) as tx:
        first(tx)
    thread.join()
    assert order == [("first", 0), ("alone", 1)]
