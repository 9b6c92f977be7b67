"""Uploaded datasets on both databases."""

from __future__ import annotations

import pytest

from nidim.spec import DatasetFacts
from service.errors import DatasetInUse, DatasetUnavailable, NameTaken, NotFound, StateConflict
from service.store import datasets, jobs, references

BLOB, INDEX = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def ready(tx, name="cats"):
    datasets.create(tx, name=name, license="CC0 \x00", blob_digest=BLOB, size_bytes=100)
    return datasets.set_state(
        tx,
        name,
        "ready",
        items=11,
        classes=("cat", "dog"),
        image={"height": 28, "width": 30, "channels": 1},
        splits={"train": 10, "test": 1},
        digest="sha256:" + "c" * 64,
        index_digest=INDEX,
        skipped={"count": 1, "first": [{"member": "x.png", "reason": "truncated"}]},
    )


def test_the_life_of_a_dataset(store):
    with store.begin() as tx:
        made = datasets.create(tx, name="birds")
        assert (made.state, made.kind, made.items, made.classes) == ("ingesting", "uploaded", 0, [])
        datasets.set_progress(tx, "birds", {"done": 3, "total": 10})
        assert datasets.get(tx, "birds").progress == {"done": 3, "total": 10}
        done = ready(tx)
        assert datasets.get(tx, "cats") == done
        assert done.facts == DatasetFacts(
            name="cats", n_train=10, n_test=1, height=28, width=30, channels=1, classes=2
        )
        assert done.license == "CC0 \ufffd"
        assert [each.name for each in datasets.list_(tx).items] == ["cats", "birds"]
        with pytest.raises(DatasetUnavailable):
            _ = made.facts


def test_a_name_is_taken_once(store):
    with store.begin() as tx:
        datasets.create(tx, name="cats")
    with pytest.raises(NameTaken), store.begin() as tx:
        datasets.create(tx, name="cats")


def test_the_name_of_one_that_failed_is_free(store):
    with store.begin() as tx:
        first = datasets.create(tx, name="cats", license="CC0", size_bytes=7, created_by="a")
        datasets.set_progress(tx, "cats", {"done": 1, "total": None})
        datasets.set_state(tx, "cats", "failed", error={"code": "no_images", "message": ""})
    with store.begin() as tx:
        again = datasets.create(tx, name="cats", created_by="b")
        assert again == datasets.get(tx, "cats")
    assert (again.state, again.error, again.progress, again.license) == ("ingesting", None, None, None)
    assert (again.size_bytes, again.items, again.classes, again.created_by) == (0, 0, [], "b")
    assert again.created_at > first.created_at
    with store.begin() as tx:  # what comes late from the reading of the first says nothing of the second
        datasets.set_progress(tx, "cats", {"done": 9, "total": None}, made_at=first.created_at)
    with pytest.raises(StateConflict, match="another one"), store.begin() as tx:
        datasets.set_state(tx, "cats", "ready", made_at=first.created_at)
    with pytest.raises(NotFound), store.begin() as tx:
        datasets.delete(tx, "cats", made_at=first.created_at)
    with store.begin() as tx:
        assert datasets.get(tx, "cats") == again
        datasets.set_state(tx, "cats", "ready", made_at=again.created_at)
    with pytest.raises(NameTaken), store.begin() as tx:
        datasets.create(tx, name="cats")


def test_a_dataset_moves_on_once(store):
    with store.begin() as tx:
        datasets.create(tx, name="cats")
        failed = datasets.set_state(tx, "cats", "failed", error={"code": "no_images", "message": ""})
        assert failed.error["code"] == "no_images"
    with pytest.raises(StateConflict), store.begin() as tx:
        datasets.set_state(tx, "cats", "ready")
    with pytest.raises(NotFound), store.begin() as tx:
        datasets.set_state(tx, "dogs", "ready")


def test_a_needed_dataset_stays(store, new_job, take):
    with store.begin() as tx:
        ready(tx)
    job = new_job(store, spec={"dataset": "cats"})
    lease = take(store, job.id)
    with pytest.raises(DatasetInUse, match=job.id), store.begin() as tx:
        datasets.delete(tx, "cats")
    with store.begin() as tx:
        jobs.fail(tx, lease, "code", "")
        assert references.unused(tx, [BLOB, INDEX]) == []
        assert datasets.delete(tx, "cats").blob_digest == BLOB
        assert references.unused(tx, [BLOB, INDEX]) == [BLOB, INDEX]
        assert datasets.get(tx, "cats") is None


@pytest.mark.parametrize("name", ["nobody", "", "../x", "\x00", "\ud800", "Cats", "cats\n"])
def test_unknown_names(store, name):
    with store.begin() as tx:
        assert datasets.get(tx, name) is datasets.hold(tx, name) is None
    with pytest.raises(NotFound), store.begin() as tx:
        datasets.delete(tx, name)


def test_a_silent_ingestion_fails(store):
    with store.begin() as tx:
        datasets.create(tx, name="cats")
        assert datasets.fail_silent(tx, silent_s=60) == []
    with store.begin() as tx:
        assert datasets.fail_silent(tx, silent_s=-1) == ["cats"]
        assert datasets.get(tx, "cats").error["code"] == "ingest_interrupted"
        assert datasets.fail_silent(tx, silent_s=-1) == []
