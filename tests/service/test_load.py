"""The short forms of ``python -m benchmarks.load``: real processes and sockets, counts that hold on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.load import stack, streams, submits, uploads

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> Iterator[stack.NewDatabase]:
    kind = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    with stack.databases(kind) as made:
        yield made


def test_a_hundred_readers_get_every_event_once(new_database: stack.NewDatabase) -> None:
    size = streams.Size(
        readers=100, slow=5, returning=10, vanishing=10, jobs=3, writes=8, every_s=0.1, idle_s=0.1, text=2000
    )
    found = streams.measure(new_database, size, seed=0)
    assert found["lost_or_doubled_readers"] == 0
    assert found["late_ms"]["n"] == 100 * 8 * 5
    assert found["memory_mb_peak"] - found["memory_mb_before"] < 100


def test_uploads_end_as_documented() -> None:
    size = uploads.Size(uploads=6, images=4, side=16, slow_s=0.5, stalled=3, stall_s=4)
    with stack.databases("sqlite") as new_database:
        found = uploads.measure(new_database, size, seed=0)
    assert found["quick"]["ends"] == found["slow"]["ends"] == {"201": 6}
    assert found["stopped"]["ends"] == {"408": 3}
    assert found["left_in_scratch"] == 0
    assert sum(found[wave]["others_failed"] for wave in ("quick", "slow", "stopped")) == 0


def test_submissions_beside_readers_and_a_worker_all_succeed(new_database: stack.NewDatabase) -> None:
    size = submits.Size(submits=60, writers=12, readers=4)
    found = submits.measure(new_database, size, seed=0)
    assert found["statuses"] == {"202": 60}
    assert found["distinct_jobs"] == found["queued_in_database"] == 60
    assert found["lists_meanwhile"]["statuses"].keys() == {"200"}
    assert found["worker"]["failures"] == {}
