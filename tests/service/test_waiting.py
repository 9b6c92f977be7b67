"""The bound on waiting jobs: never too low, and looked up again before anybody is refused."""

from __future__ import annotations

import pytest

from service import waiting
from service.store import Store, jobs
from service.waiting import Waiting


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each count found."""
    found: list[int] = []

    def counted(*args: object, **kwargs: object) -> int:
        found.append(jobs.count_waiting(*args, **kwargs))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(waiting, "jobs", type("Counting", (), {"count_waiting": staticmethod(counted)}))
    return found


def test_it_counts_once_while_there_is_room_and_again_before_it_refuses(store: Store, new_job, take, counts):
    bound = Waiting()
    for _ in range(4):
        with store.session() as tx:
            assert bound.takes_one(tx, 4)
        made = new_job(store)
    assert counts == [0]
    with store.session() as tx:
        assert not bound.takes_one(tx, 4)
    assert counts == [0, 4]
    take(store, made.id)
    with store.session() as tx:
        assert bound.takes_one(tx, 4)
    assert counts == [0, 4, 3]


def test_what_others_queue_is_seen_at_the_next_count(store: Store, new_job, counts, monkeypatch):
    bound = Waiting()
    with store.session() as tx:
        assert bound.takes_one(tx, 3)
    for _ in range(3):
        new_job(store)
    with store.session() as tx:
        assert bound.takes_one(tx, 3), "not known yet"
        monkeypatch.setattr(bound, "_until", 0.0)
        assert not bound.takes_one(tx, 3)
    assert counts == [0, 3]
