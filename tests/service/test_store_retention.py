"""Retention: what may be forgotten is forgotten, what is needed stays."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from service.store import (
    audit,
    datasets,
    encoders,
    events,
    jobs,
    references,
    retention,
    scratch,
    singletons,
)
from service.store.blobs import blob_path
from service.store.retention import Tidied

SETTINGS = SimpleNamespace(
    data_dir=Path("/nonexistent"),
    cache_max_bytes=0,
    retain_checkpoints_days=7,
    retain_events_days=90,
    retain_jobs_days=0,
    retain_audit_days=365,
)
DAY_US = 86_400_000_000


@pytest.fixture
def failed_job(store, new_job, take):
    """A job that failed with a checkpoint and a log."""
    job = new_job(store)
    lease = take(store, job.id)
    with store.begin() as tx:
        jobs.add_events(tx, lease, [("log", {"line": "x"})])
        jobs.add_checkpoint(tx, lease, "sha256:" + "a" * 64, 1)
        return jobs.fail(tx, lease, "code", "message")


def age(store, days):
    with store.begin() as tx:
        tx.execute(text(f"UPDATE jobs SET finished_at = finished_at - {days * DAY_US}"))


def look(store, job_id):
    with store.session() as tx:
        job = jobs.get(tx, job_id)
        return job and job.checkpoint_digest, [event.type for event in events.list_after(tx, job_id)]


def test_young_jobs_keep_everything(store, failed_job):
    before = look(store, failed_job.id)
    assert retention.tidy_if_due(store, SETTINGS) == Tidied()
    assert look(store, failed_job.id) == before


def test_old_jobs_lose_checkpoints_then_events_then_themselves(store, failed_job, new_job):
    running = new_job(store)
    age(store, 8)
    with store.begin() as tx:
        assert retention.forget_checkpoints(tx, older_than_s=7 * 86_400) == 1
        assert retention.forget_events(tx, older_than_s=9 * 86_400) == 0
        assert retention.forget_events(tx, older_than_s=7 * 86_400) == 2
        assert retention.forget_jobs(tx, older_than_s=0) == 0
    assert look(store, failed_job.id) == (None, ["state"] * 3)
    with store.begin() as tx:
        assert retention.forget_jobs(tx, older_than_s=7 * 86_400) == 1
    assert look(store, failed_job.id) == (None, [])
    assert look(store, running.id) == (None, ["state"])


def noted(store):
    """(action, target, detail) of what retention did, the first first."""
    with store.session() as tx:
        found = audit.list_(tx, who="retention").items
    return [(entry.action, entry.target, entry.detail) for entry in reversed(found)]


def test_what_is_forgotten_is_in_the_audit_log(store, failed_job):
    with store.begin() as tx:
        datasets.create(tx, name="cats")
        tx.execute(text("UPDATE datasets SET touched_at = 1"))
    put_old(store, b"nothing needs this")
    age(store, 100)
    retention.tidy_if_due(store, SETTINGS)
    assert sorted(noted(store)) == [
        ("dataset.fail", "cats", {"because": "ingest_interrupted"}),
        ("retention.forget", "blobs", {"count": 1}),
        ("retention.forget", "checkpoints", {"count": 1}),
        ("retention.forget", "events", {"count": 2}),
    ]
    with store.begin() as tx:
        retention.forget_jobs(tx, older_than_s=7 * 86_400)
    assert noted(store)[-1] == ("job.delete", failed_job.id, None)


def test_tidying_happens_once_in_a_while(store, failed_job):
    age(store, 100)
    assert retention.tidy_if_due(store, SETTINGS) == Tidied(checkpoints=1, events=2)
    age(store, 100)
    assert retention.tidy_if_due(store, SETTINGS) == Tidied()


def test_a_process_that_is_wrong_about_the_time_deletes_nothing_new(store, monkeypatch):
    """A worker has just stored it and has not written its row yet."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(retention, "datetime", Ahead, raising=False)
    digest = store.blobs.put_bytes(b"a bundle")[0]
    half = store.blobs._root / "incoming" / "half"
    half.write_bytes(b"")
    assert retention.sweep(store) == retention.discard(store, [digest]) == 0
    assert store.blobs.exists(digest)
    assert half.exists()


def test_a_sweep_deletes_old_blobs_that_nothing_needs(store, new_encoder, take, new_job):
    put = {
        name: store.blobs.put_bytes(name.encode())[0]
        for name in ("model", "data", "index", "state", "lost", "new")
    }
    encoder = new_encoder(
        store, manifest={"digest": "sha256:x", "files": {"m": {"digest": put["model"], "size": 5}}}
    )
    lease = take(store, new_job(store).id)
    with store.begin() as tx:
        datasets.create(tx, name="cats", blob_digest=put["data"])
        datasets.set_state(tx, "cats", "ready", index_digest=put["index"])
        jobs.add_checkpoint(tx, lease, put["state"], 1)
    root = store.blobs._root
    leftover = root / "incoming" / "half"
    leftover.write_bytes(b"")
    for path in (leftover, *(root / blob_path(digest) for name, digest in put.items() if name != "new")):
        os.utime(path, (1, 1))
    assert retention.sweep(store) == 1
    assert {name for name, digest in put.items() if not store.blobs.exists(digest)} == {"lost"}
    assert not leftover.exists()
    with store.begin() as tx:
        encoders.delete(tx, encoder.id)
    assert retention.discard(store, [put["model"], put["data"]]) == 1
    assert retention.sweep(store, grace=timedelta(0)) == 1
    assert {blob.digest for blob in store.blobs.list_()} == {put[name] for name in ("data", "index", "state")}


def put_old(store, content):
    """A blob that was stored long ago."""
    digest, _ = store.blobs.put_bytes(content)
    os.utime(store.blobs._root / blob_path(digest), (1, 1))
    return digest


def test_what_was_stored_a_moment_ago_is_not_discarded(store):
    young, _ = store.blobs.put_bytes(b"its row comes later")
    old = put_old(store, b"its row is gone")
    assert retention.discard(store, [young, old, None]) == 1
    assert (store.blobs.exists(young), store.blobs.exists(old)) == (True, False)


def test_what_is_stored_again_or_needed_again_while_others_go_stays(store, monkeypatch):
    """An S3 takes seconds for many, and whoever uploads the same content meanwhile is told that it is there."""
    contents = {put_old(store, content): content for content in (b"a", b"b", b"c")}
    delete, gone = store.blobs.delete, []

    def slow(digest):
        delete(digest)
        gone.append(digest)
        stored, needed = (other for other in contents if other not in gone)
        store.blobs.put_bytes(contents[stored])
        with store.begin() as tx:
            datasets.create(tx, name="again", size_bytes=1)
            datasets.set_state(tx, "again", "ready", blob_digest=needed, index_digest=needed)

    monkeypatch.setattr(store.blobs, "delete", slow)
    assert retention.discard(store, contents) == 1
    assert [digest for digest in contents if not store.blobs.exists(digest)] == gone


def test_nothing_is_deleted_while_a_backup_holds_the_blobs(store):
    digest = put_old(store, b"x")
    with store.begin() as tx:
        assert singletons.try_hold(tx, retention.HOLD, "backup", 60)
    assert retention.discard(store, [digest]) == retention.sweep(store) == 0
    with store.begin() as tx:
        singletons.release(tx, retention.HOLD, "backup")
    assert retention.sweep(store) == 1


def test_a_hold_whose_owner_died_runs_out(store):
    digest = put_old(store, b"x")
    with store.begin() as tx:
        assert singletons.try_hold(tx, retention.HOLD, "backup", -1)
    assert retention.sweep(store) == 1
    assert not store.blobs.exists(digest)


def test_events_go_in_portions(store, new_job, take):
    for _ in range(5):
        lease = take(store, new_job(store).id)
        with store.begin() as tx:
            jobs.add_events(tx, lease, [("log", {})] * 3)
            jobs.fail(tx, lease, "code", "message")
    age(store, 100)
    with store.begin() as tx:
        assert retention.forget_events(tx, older_than_s=90 * 86_400, most_jobs=2) == 6
    assert retention.tidy_if_due(store, SETTINGS).events == 9


def test_checkpoints_count_once_however_many_jobs_share_them(store, new_job, take):
    lease = take(store, new_job(store).id)
    with store.begin() as tx:
        jobs.add_checkpoint(tx, lease, "sha256:" + "a" * 64, 1, 1000)
        jobs.add_checkpoint(tx, lease, "sha256:" + "b" * 64, 2, 300)
        jobs.fail(tx, lease, "code", "message")
        again = jobs.retry(tx, lease.job_id)
        datasets.create(tx, name="cats", size_bytes=20)
        assert references.checkpoint_bytes(tx) == 300
        assert references.used_bytes(tx) == 320
        datasets.create(tx, name="dogs", size_bytes=7)
        datasets.set_state(tx, "dogs", "failed", error={"code": "bad_archive", "message": "no image"})
        assert references.used_bytes(tx) == 320, "nothing of it is kept"
        assert (jobs.checkpoint_bytes(tx, lease.job_id), jobs.checkpoint_bytes(tx, again.id)) == (300, 0)
    age(store, 8)
    with store.begin() as tx:
        retention.forget_checkpoints(tx, older_than_s=7 * 86_400)
        assert references.checkpoint_bytes(tx) == 0


def test_the_scratch_of_killed_processes_is_removed(store, tmp_path, new_job, take):
    root = tmp_path / "scratch"
    running, over = take(store, new_job(store).id), take(store, new_job(store).id)
    with store.begin() as tx:
        jobs.release(tx, over)
    names = {
        "running": f"{running.job_id}-{running.fence}",
        "former": f"{running.job_id}-{running.fence + 1}",
        "over": f"{over.job_id}-{over.fence}",
        "request": "ingest-abc",
    }
    for name in names.values():
        (root / name / "deep").mkdir(parents=True)
        (root / name / "deep" / "file").write_bytes(b"x")
    (root / "upload-1").write_bytes(b"x")
    assert scratch.remove_stale(store, root) == 0, "somebody may be at work there"
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    (root / "upload-2").write_bytes(b"x")
    assert scratch.remove_stale(store, root) == 4
    assert {path.name for path in root.iterdir()} == {names["running"], "upload-2"}
