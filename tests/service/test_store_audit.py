"""The audit log: in the transaction of the change, newest first, for as long as it is kept."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from service import keyring, quotas
from service.errors import NotFound, QuotaExceeded
from service.settings import Settings
from service.store import audit, datasets, encoders, jobs, keys, retention
from service.store.audit import By

BY = By("key_" + "0" * 26, "req_1")
DAY_US = 86_400_000_000


def entries(store, **query):
    with store.session() as tx:
        return audit.list_(tx, **query)


def note(store, target, by=BY, **detail):
    with store.begin() as tx:
        audit.record(tx, by, "job.submit", target, **detail)


def test_an_entry_says_who_what_and_by_which_request(store):
    note(store, "job_1", encoder="faces")
    note(store, "x\x00\ud800y", By("cli"))
    second, first = entries(store).items
    assert (first.who, first.action, first.target) == (BY.who, "job.submit", "job_1")
    assert (first.request_id, first.detail) == ("req_1", {"encoder": "faces"})
    assert (second.who, second.request_id, second.detail) == ("cli", None, None)
    assert "\x00" not in second.target
    assert second.at >= first.at


def test_a_change_that_is_rolled_back_leaves_no_entry(store):
    def create_and_fail():
        with store.begin() as tx:
            keyring.create(tx, BY, pepper=store.pepper, name="ci", scopes=["read"])
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        create_and_fail()
    assert entries(store).items == ()
    with pytest.raises(NotFound), store.begin() as tx:
        keyring.revoke(tx, BY, "key_" + "0" * 26)
    assert entries(store).items == ()


def test_keys_are_noted_once_without_their_secret(store):
    with store.begin() as tx:
        key, secret = keyring.create(tx, BY, pepper=store.pepper, name="ci", scopes=["read"])
    for _ in range(2):
        with store.begin() as tx:
            keyring.revoke(tx, BY, key.id)
    assert [(entry.action, entry.target) for entry in entries(store).items] == [
        ("key.revoke", key.id),
        ("key.create", key.id),
    ]
    assert secret not in str(entries(store))


def test_the_bootstrap_key_is_noted_at_its_first_start_only(store):
    settings = Settings(bootstrap_key="nk_" + "s" * 40)
    for _ in range(2):
        keyring.create_bootstrap_key(settings, store)
    with store.session() as tx:
        (key,) = keys.list_(tx)
    with store.begin() as tx:
        keyring.revoke(tx, By("cli"), key.id)
    keyring.create_bootstrap_key(settings, store)
    assert [entry.who for entry in entries(store).items] == ["cli", "bootstrap"]
    with store.session() as tx:
        assert keys.verify(tx, "nk_" + "s" * 40, pepper=store.pepper) is None


def test_pages_are_complete_and_in_order(store):
    for number in range(7):
        note(store, f"job_{number}", By("cli") if number % 2 else BY)
    seen, cursor = [], None
    while True:
        page = entries(store, limit=3, cursor=cursor)
        seen += [entry.target for entry in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"job_{number}" for number in range(6, -1, -1)]
    assert [entry.target for entry in entries(store, who="cli").items] == ["job_5", "job_3", "job_1"]
    assert entries(store, who="nobody").items == ()


def test_old_entries_are_forgotten_and_zero_keeps_all(store):
    note(store, "old")
    with store.begin() as tx:
        tx.execute(text(f"UPDATE audit SET at = at - {2 * DAY_US}"))
    note(store, "new")
    with store.begin() as tx:
        assert audit.forget(tx, older_than_s=0) == 0
        assert audit.forget(tx, older_than_s=86_400) == 1
    assert [entry.target for entry in entries(store).items] == ["new"]


def test_retention_forgets_entries(store):
    note(store, "old")
    with store.begin() as tx:
        tx.execute(text(f"UPDATE audit SET at = at - {2 * DAY_US}"))
    assert retention.tidy_if_due(store, Settings(retain_audit_days=1)).audit == 1
    assert entries(store).items == ()


def test_a_registered_encoder_is_noted_with_its_job(store, new_job, take, finish):
    job = new_job(store)
    encoder = finish(store, take(store, job.id))
    (entry,) = entries(store).items
    assert (entry.who, entry.action, entry.target) == ("worker", "encoder.create", encoder.id)
    assert entry.detail == {"version": "faces@1", "job": job.id}


def new_key(store):
    with store.begin() as tx:
        return By(keys.create(tx, pepper=store.pepper, name="ci", scopes=["train"])[0].id)


def test_queued_jobs_are_counted_per_key(store, new_job, take):
    settings = Settings(key_queued_jobs=2)
    one, other = new_key(store), new_key(store)
    first, _ = (new_job(store, created_by=one.who) for _ in range(2))
    new_job(store)
    with store.begin() as tx:
        quotas.check_jobs(settings, tx, other)
        quotas.check_jobs(settings, tx, By("open"))
        quotas.check_jobs(Settings(key_queued_jobs=0), tx, one)
        with pytest.raises(QuotaExceeded, match="2 jobs of this key"):
            quotas.check_jobs(settings, tx, one)
    take(store, first.id)
    with store.begin() as tx:
        quotas.check_jobs(settings, tx, one)
        assert jobs.count_waiting(tx, created_by=one.who) == 1


def test_stored_bytes_are_counted_per_key(store):
    settings = Settings(key_stored_bytes=100)
    one, other = new_key(store), new_key(store)
    with store.begin() as tx:
        quotas.check_bytes(settings, tx, one, 100)
        datasets.create(tx, name="a", size_bytes=60, created_by=one.who)
        datasets.create(tx, name="b", size_bytes=40, created_by=one.who)
        quotas.check_bytes(settings, tx, other, 100)
        quotas.check_bytes(settings, tx, By("open"), 1000)
        with pytest.raises(QuotaExceeded, match="hold 100 bytes, these are 1 more"):
            quotas.check_bytes(settings, tx, one, 1)
        datasets.set_state(tx, "b", "failed", error={"code": "x", "message": "y"})
        quotas.check_bytes(settings, tx, one, 40)
        datasets.delete(tx, "a")
        assert datasets.bytes_of(tx, one.who) == 0


def test_trained_encoders_are_stored_bytes_of_the_key_that_submitted_them(store, new_job, take, finish):
    settings = Settings(key_stored_bytes=100)
    one, other = new_key(store), new_key(store)
    with store.begin() as tx:
        datasets.create(tx, name="a", size_bytes=40, created_by=one.who)
        quotas.check_training(settings, tx, one)
    encoder = finish(store, take(store, new_job(store, created_by=one.who).id), size=60)
    finish(store, take(store, new_job(store).id), size=1000)
    with store.begin() as tx:
        with pytest.raises(QuotaExceeded, match="datasets and encoders of this key hold 100 bytes"):
            quotas.check_training(settings, tx, one)
        with pytest.raises(QuotaExceeded, match="hold 100 bytes, these are 1 more"):
            quotas.check_bytes(settings, tx, one, 1)
        quotas.check_training(settings, tx, other)
        quotas.check_training(settings, tx, By("open"))
        encoders.delete(tx, encoder.id)
        quotas.check_training(settings, tx, one)
        quotas.check_bytes(settings, tx, one, 60)
