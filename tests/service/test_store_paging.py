"""Keyset paging: every item once, newest first, whatever happens meanwhile."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from service.errors import BadCursor
from service.store import jobs
from service.store.ids import is_id, new_id
from service.store.paging import _decode


def pages(store, limit, **filters):
    cursor = None
    while True:
        with store.session() as tx:
            page = jobs.list_(tx, limit=limit, cursor=cursor, **filters)
        yield [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_equal_moments_are_neither_lost_nor_doubled(store, new_job, limit):
    ids = [new_job(store).id for _ in range(7)]
    with store.begin() as tx:
        tx.execute(text("UPDATE jobs SET created_at = 5"))
        tx.execute(text("UPDATE jobs SET created_at = 6 WHERE id = :id"), {"id": ids[2]})
    listed = list(pages(store, limit))
    expected = [ids[2], *sorted(set(ids) - {ids[2]}, reverse=True)]
    assert [job_id for page in listed for job_id in page] == expected
    assert all(len(page) == limit for page in listed[:-1])
    assert [job_id for page in pages(store, limit, state="queued") for job_id in page] == expected


def test_what_is_added_or_deleted_between_pages_disturbs_nothing(store, new_job):
    ids = [new_job(store).id for _ in range(6)]
    walk = pages(store, 2)
    seen = next(walk)
    new_job(store)
    with store.begin() as tx:
        tx.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": seen[-1]})
    seen += [job_id for page in walk for job_id in page]
    assert seen == ids[::-1]


def test_the_limit_has_limits(store, new_job):
    new_job(store)
    new_job(store)
    with store.session() as tx:
        assert len(jobs.list_(tx, limit=0).items) == 1
        assert len(jobs.list_(tx, limit=10**12).items) == 2


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "σ",
        "\x00",
        "e30",
        "A" * 10000,
        encoded([1]),
        encoded(["1", "a"]),
        encoded([10**40, "a"]),
        encoded([-(10**40), "a"]),
        encoded([1, 2]),
        encoded([True, "a"]),
        encoded([1.5, "a"]),
        encoded([1, "\x00"]),
        encoded([1, "\ud800"]),
        encoded({"a": 1, "b": 2}),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(store, cursor):
    with pytest.raises(BadCursor), store.session() as tx:
        jobs.list_(tx, cursor=cursor)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_is_a_cursor_or_refused(cursor):
    try:
        _decode(cursor)
    except BadCursor:
        return


def test_ids_sort_by_the_time_at_which_they_were_made():
    made = [new_id("job_") for _ in range(200)]
    assert len(set(made)) == 200
    assert all(is_id("job_", each) for each in made)
    stamps = [each[:15] for each in made]
    assert stamps == sorted(stamps)
    assert not is_id("enc_", made[0])
    assert not is_id("job_", made[0] + "\n")
    assert not is_id("job_", made[0].upper())
