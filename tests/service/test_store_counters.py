"""Counters and figures: exact under concurrency, bounded in names, the same on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.store import Store, counters, datasets, figures, jobs


def figures_of(store: Store) -> figures.Figures:
    with store.session() as tx:
        return figures.read(tx)


def test_nothing_happened_yet(store: Store) -> None:
    found = figures_of(store)
    assert set(found.counters.values()) == {0}
    assert found.jobs == dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    assert (found.queue_age_s, found.ingest_silence_s, found.leases_overdue) == (0, 0, 0)
    assert found.blob_bytes == {"encoders": 0, "datasets": 0, "checkpoints": 0}


def test_concurrent_counts_add_up(store: Store) -> None:
    def count() -> None:
        for _ in range(10):
            counters.note(store, counters.PUBLISH_FAILURES)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.begin() as tx:
        counters.add(tx, counters.MESSAGES_DROPPED, counters.FOREIGN, 3)
        counters.add(tx, counters.MESSAGES_DROPPED, counters.FOREIGN, 0)
    found = figures_of(store).counters
    assert found[counters.PUBLISH_FAILURES, ""] == 40
    assert found[counters.MESSAGES_DROPPED, counters.FOREIGN] == 3
    assert sum(found.values()) == 43


@pytest.mark.parametrize("name", [("attempts", ""), (counters.JOBS_REAPED, "elsewhere"), ("", "")])
def test_a_counter_that_is_not_listed_is_refused(sqlite_store: Store, name: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="no counter"), sqlite_store.begin() as tx:
        counters.add(tx, *name)


def test_a_count_that_cannot_be_written_fails_nobody(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite_store.begin() as tx:
        tx.connection().exec_driver_sql("ALTER TABLE singletons RENAME TO elsewhere")
    counters.note(sqlite_store, counters.PUBLISH_FAILURES)
    assert "was not counted" in caplog.text


def test_a_job_waits_since_it_came_back_not_since_it_was_made(
    store: Store, new_job: Callable[..., jobs.Job], take: Callable[..., jobs.Lease]
) -> None:
    job = new_job(store)
    with store.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE events SET at = at - 3600000000")
    assert 3600 <= figures_of(store).queue_age_s < 3660
    lease = take(store, job.id)
    assert figures_of(store).queue_age_s == 0
    with store.begin() as tx:
        jobs.release(tx, lease)
    assert figures_of(store).queue_age_s < 60


def test_bytes_are_counted_once_and_states_are_told(
    store: Store, new_encoder: Callable[..., Any], new_job: Callable[..., jobs.Job]
) -> None:
    new_encoder(store)
    new_encoder(store)  # the same file of ten bytes
    job = new_job(store)
    with store.begin() as tx:
        held = f"checkpoint_digest = 'sha256:{'3' * 64}', checkpoint_bytes = 5"
        tx.connection().exec_driver_sql(f"UPDATE jobs SET {held}")
        datasets.create(tx, name="mine", license=None, size_bytes=70)
        tx.connection().exec_driver_sql("UPDATE datasets SET touched_at = touched_at - 60000000")
    found = figures_of(store)
    assert (found.encoder_versions, found.blob_bytes["encoders"], found.blob_bytes["checkpoints"]) == (
        2,
        10,
        5,
    )
    assert (found.jobs["succeeded"], found.jobs["queued"]) == (2, 1)
    assert found.datasets == {"ready": 0, "ingesting": 1, "failed": 0}
    assert 60 <= found.ingest_silence_s < 120
    with store.begin() as tx:
        datasets.set_state(tx, "mine", "ready", blob_digest="sha256:" + "2" * 64)
        jobs.request_cancel(tx, job.id)
    found = figures_of(store)
    assert found.blob_bytes["datasets"] == 70
    assert (found.ingest_silence_s, found.queue_age_s, found.jobs["cancelled"]) == (0, 0, 1)


def test_the_reaper_tells_a_silent_worker_from_one_that_handed_back(
    store: Store,
    new_job: Callable[..., jobs.Job],
    take: Callable[..., jobs.Lease],
    expire: Callable[[Store, str], None],
) -> None:
    handed_back, silent = take(store, new_job(store).id), take(store, new_job(store).id)
    with store.begin() as tx:
        jobs.abandon(tx, handed_back)
    expire(store, silent.job_id)
    assert figures_of(store).leases_overdue == 2
    with store.begin() as tx:
        reaped = jobs.reap(tx, max_attempts_without_checkpoint=3, republish_after_s=30)
    assert set(reaped.requeued) == {handed_back.job_id, silent.job_id}
    assert reaped.silent == 1
    assert figures_of(store).leases_overdue == 0
