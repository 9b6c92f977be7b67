"""The reaper on both databases: what is lost comes back, once, by one process, whatever breaks."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest
from sqlalchemy import select, text

from service.reaper import Reaper, ReapResult
from service.store import jobs, singletons
from service.store.clock import now

SETTINGS = SimpleNamespace(
    lease_s=30.0,
    reaper_every_s=5.0,
    republish_after_s=30.0,
    max_attempts_without_checkpoint=3,
    retain_checkpoints_days=7.0,
    retain_events_days=90.0,
    retain_audit_days=365.0,
    retain_jobs_days=0.0,
)


class Bell:
    """Takes publications; ``broken`` ones are refused."""

    def __init__(self, broken: bool = False) -> None:
        self.rung: list[tuple[str, str]] = []
        self.broken = broken
        self.tries = 0

    def __call__(self, job_id: str, priority: str) -> bool:
        self.tries += 1
        if not self.broken:
            self.rung.append((job_id, priority))
        return not self.broken


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def reaper(store, bell):
    return Reaper(store, bell, SETTINGS)


def pretend(store, seconds):
    """As if so many seconds had passed since the publications."""
    with store.begin() as tx:
        tx.execute(text(f"UPDATE jobs SET published_at = published_at - {seconds * 1_000_000}"))


def test_a_job_that_was_never_published_is(store, reaper, bell, new_job):
    first, second = new_job(store, priority="high"), new_job(store)
    assert reaper.run_once() == ReapResult(held=True, published=2)
    assert bell.rung == [(first.id, "high"), (second.id, "normal")]
    assert reaper.run_once() == ReapResult(held=True)


def test_a_lost_message_is_sent_again_later_and_later(store, reaper, new_job):
    new_job(store)
    assert reaper.run_once().published == 1
    for wait in (30, 60, 120, 240, 480, 480):
        pretend(store, wait - 5)
        assert reaper.run_once().published == 0
        pretend(store, 10)
        assert reaper.run_once().published == 1


def test_a_running_job_is_not_published(store, reaper, new_job, take):
    take(store, new_job(store).id)
    assert reaper.run_once() == ReapResult(held=True)


def test_a_lost_worker(store, reaper, bell, new_job, take, expire):
    job = new_job(store)
    for _ in range(2):
        take(store, job.id)
        expire(store, job.id)
        assert reaper.run_once() == ReapResult(held=True, requeued=1, published=1)
    take(store, job.id)
    expire(store, job.id)
    assert reaper.run_once() == ReapResult(held=True, failed=1)
    assert bell.rung == [(job.id, "normal")] * 2
    with store.session() as tx:
        assert jobs.get(tx, job.id).failure["code"] == "poison"


def test_a_lost_worker_of_a_cancelled_job(store, reaper, new_job, take, expire):
    job = new_job(store)
    take(store, job.id)
    with store.begin() as tx:
        assert jobs.request_cancel(tx, job.id).state == "running"
    expire(store, job.id)
    assert reaper.run_once() == ReapResult(held=True, cancelled=1)


def test_a_cancel_after_the_worker_was_lost_needs_no_reaper(store, new_job, take, expire):
    job = new_job(store)
    take(store, job.id)
    expire(store, job.id)
    with store.begin() as tx:
        assert jobs.request_cancel(tx, job.id).state == "cancelled"


def test_a_dead_broker_is_asked_once_a_round_and_nothing_is_forgotten(store, bell, reaper, new_job):
    for _ in range(3):
        new_job(store)
    bell.broken = True
    assert reaper.run_once() == ReapResult(held=True)
    assert bell.tries == 1
    bell.broken = False
    assert reaper.run_once().published == 3


def test_one_reaper_at_a_time_and_another_when_it_is_gone(store, bell, reaper, new_job):
    new_job(store)
    other = Reaper(store, bell, SETTINGS)
    assert reaper.run_once().held
    assert other.run_once() == ReapResult(held=False)
    with store.begin() as tx:
        tx.execute(text("UPDATE singletons SET until = 1"))
    assert other.run_once().held
    assert not reaper.run_once().held


def test_the_loop_outlives_errors_and_gives_its_lease_back(store, new_job, caplog):
    job = new_job(store)
    stop, rounds = threading.Event(), []

    def publish(job_id, _):
        rounds.append(job_id)
        if len(rounds) == 1:
            raise RuntimeError("a bug")
        stop.set()
        return True

    settings = SimpleNamespace(**{**vars(SETTINGS), "reaper_every_s": 0.01})
    thread = threading.Thread(target=Reaper(store, publish, settings).run_forever, args=(stop,))
    with caplog.at_level(logging.INFO, "service.reaper"):
        thread.start()
        thread.join(30)
    assert not thread.is_alive()
    assert rounds == [job.id] * 2
    assert "goes on after an error" in caplog.text
    with store.begin() as tx:
        assert singletons.try_hold(tx, "reaper", "another", 60)


HOUR_US = 3_600_000_000


def clock_set_back_by_an_hour(store):
    """As seen from the database: what was written before lies an hour further ahead."""
    with store.begin() as tx:
        for column in ("lease_until", "published_at"):
            tx.execute(text(f"UPDATE jobs SET {column} = {column} + {HOUR_US}"))
        tx.execute(text(f'UPDATE singletons SET "until" = "until" + {HOUR_US} WHERE name = \'reaper\''))


def lease_left_s(store, job_id):
    with store.session() as tx:
        job = jobs.get(tx, job_id)
        return (job.lease_until - tx.execute(select(now())).scalar_one()).total_seconds()


def test_a_clock_that_is_set_back_gives_no_dead_worker_an_hour(store, reaper, bell, new_job, take):
    job, waiting = new_job(store), new_job(store)
    take(store, job.id)
    assert reaper.run_once().published == 1
    clock_set_back_by_an_hour(store)
    other = Reaper(store, bell, SETTINGS)  # the one before died: its own lease must not last an hour either
    assert other.run_once().held
    assert 0 < lease_left_s(store, job.id) <= 31
    pretend(store, 31)
    assert other.run_once().published == 1
    assert bell.rung == [(waiting.id, "normal")] * 2


def test_a_living_worker_keeps_its_lease_when_the_clock_is_set_back(store, reaper, new_job, take):
    lease = take(store, new_job(store).id)
    clock_set_back_by_an_hour(store)
    assert reaper.run_once().requeued == 0
    with store.begin() as tx:
        assert jobs.heartbeat(tx, lease, 30.0).alive
