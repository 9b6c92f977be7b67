"""Watching on both databases: processes that add up, rows that go with their encoder, errors that cost nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from nidim.drift import State, calibrate, watched
from nidim.priors import GaussianPrior
from service.inference.calibrations import Calibrations
from service.inference.drift import MOST_ROWS, Drifts
from service.inference.laws import Laws
from service.store import Store, drift, encoders

ON = SimpleNamespace(
    drift_enabled=True, drift_false_alarms_per_day=1.0, drift_flush_s=1.0, drift_unit="image"
)
HEALTHY = GaussianPrior(2)


@pytest.fixture
def encoder(store: Store, new_encoder: Any) -> Any:
    tolerance = calibrate(HEALTHY.sample(5_000, seed=0)).model_dump(mode="json")
    made = new_encoder(store, report={"mi_nats": 1.5, "calibration": {"tolerance": tolerance}})
    with store.session() as tx:
        return encoders.get_by_ref(tx, made.id)


def process(store: Store, **settings: Any) -> Drifts:
    """What one API process has."""
    return Drifts(store, Laws(store.blobs), Calibrations(), SimpleNamespace(**{**vars(ON), **settings}))


def row(store: Store, encoder: Any) -> drift.Watched | None:
    with store.session() as tx:
        return drift.get(tx, encoder.id)


def test_processes_at_once_lose_nothing(store: Store, encoder: Any) -> None:
    def work(seed: int) -> None:
        one = process(store)
        for i in range(10):
            one.feed(encoder, HEALTHY.sample(30, seed=seed, offset=30 * i))
            one.flush()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = row(store, encoder)
    assert found is not None
    assert (found.n, found.alarm_at) == (4 * 300, None)
    state = State.from_json(found.state)
    everything = np.concatenate([HEALTHY.sample(300, seed=seed) for seed in range(1, 5)])
    np.testing.assert_allclose(state.sums, watched(HEALTHY, everything).sum(0), atol=1e-6)


def test_an_alarm_begins_once_and_stays(store: Store, encoder: Any, caplog: Any) -> None:
    one = process(store)
    for seed in range(1, 9):
        one.feed(encoder, HEALTHY.sample(500, seed=seed) + np.float32(1))
        one.flush()
    found = row(store, encoder)
    assert found is not None
    assert found.alarm_at is not None
    assert len([r for r in caplog.records if "have drifted" in r.message]) == 1
    with store.session() as tx:
        assert [(s.encoder, s.n, s.alarm) for s in drift.shown(tx)] == [("faces@1", 4_000, True)]
    with store.begin() as tx:
        assert drift.reset(tx, encoder.id)
        assert not drift.reset(tx, encoder.id)
    assert one.report(encoder, row(store, encoder))["alarm"] is False


def test_time_counts_only_while_images_come(store: Store, encoder: Any) -> None:
    """A change is given as much to bet with as time has passed since the last images, a flush at most."""
    one = process(store)
    one.feed(encoder, HEALTHY.sample(10, seed=1))
    one.flush()
    first = row(store, encoder)
    with store.begin() as tx:
        tx.execute(text("UPDATE drifts SET updated_at = updated_at - 864000000000"))  # ten days of silence
    one.feed(encoder, HEALTHY.sample(10, seed=2))
    one.flush()
    second = row(store, encoder)
    assert first is not None
    assert second is not None
    assert np.exp(second.detector_log_days) * 86_400 == pytest.approx(ON.drift_flush_s, rel=0.2)
    assert np.exp(first.detector_log_days) * 86_400 == pytest.approx(ON.drift_flush_s, rel=0.2)


def test_rows_without_a_value_and_more_than_can_be_watched(store: Store, encoder: Any) -> None:
    one = process(store)
    rows = HEALTHY.sample(3, seed=1)
    rows[1] = np.nan
    one.feed(encoder, rows)
    one.feed(encoder, rows[1:2])
    one.flush()
    assert row(store, encoder).n == 2
    for _ in range(5):
        one.feed(encoder, HEALTHY.sample(500, seed=2))
    one.flush()
    assert row(store, encoder).n == 2 + MOST_ROWS


def test_a_request_can_be_one_observation(store: Store, encoder: Any) -> None:
    """The mean of its features, of the images that have a value."""
    one = process(store, drift_unit="request")
    rows = HEALTHY.sample(7, seed=1)
    broken = np.concatenate([rows[5:], np.full((1, 2), np.nan, np.float32)])
    for part in (rows[:4], broken[2:], rows[4:5], broken):
        one.feed(encoder, part)
    one.flush()
    found = row(store, encoder)
    values = watched(HEALTHY, rows)
    wanted = values[:4].mean(0) + values[4] + values[5:].mean(0)
    assert found.n == 3
    np.testing.assert_allclose(State.from_json(found.state).sums, wanted, atol=1e-9)


def test_turned_off_it_watches_nothing(store: Store, encoder: Any) -> None:
    one = process(store, drift_enabled=False)
    one.feed(encoder, HEALTHY.sample(3, seed=1))
    one.flush()
    assert row(store, encoder) is None
    assert one.report(encoder, None)["enabled"] is False


def test_what_an_encoder_left_when_it_was_deleted_is_dropped(store: Store, encoder: Any, caplog: Any) -> None:
    one = process(store)
    one.feed(encoder, HEALTHY.sample(3, seed=1))
    one.flush()
    one.feed(encoder, HEALTHY.sample(3, seed=2))
    with store.begin() as tx:
        encoders.delete(tx, encoder.id)
    one.flush()
    assert row(store, encoder) is None
    assert not caplog.records


def test_a_state_of_another_version_is_begun_anew(store: Store, encoder: Any, caplog: Any) -> None:
    one = process(store)
    one.feed(encoder, HEALTHY.sample(3, seed=1))
    one.flush()
    with store.begin() as tx:
        tx.execute(text("UPDATE drifts SET state = '{\"version\": 99}'"))
    one.feed(encoder, HEALTHY.sample(4, seed=2))
    one.flush()
    assert row(store, encoder).n == 4
    assert "version 99" in caplog.text


def test_without_a_database_watching_goes_on_later(store: Store, encoder: Any, caplog: Any) -> None:
    one = process(store)
    with store.begin() as tx:
        tx.execute(text("ALTER TABLE drifts RENAME TO elsewhere"))
    one.feed(encoder, HEALTHY.sample(3, seed=1))
    one.flush()
    assert "goes on after an error" in caplog.text
    with store.begin() as tx:
        tx.execute(text("ALTER TABLE elsewhere RENAME TO drifts"))
    one.feed(encoder, HEALTHY.sample(4, seed=2))
    one.flush()
    assert row(store, encoder).n == 4


@pytest.mark.parametrize(
    "tolerance", [{"version": 2}, "none", calibrate(GaussianPrior(3).sample(100, seed=0)).model_dump()]
)
def test_a_calibration_that_is_not_understood_is_left_out(
    sqlite_store: Store, new_encoder: Any, tolerance: Any, caplog: Any
) -> None:
    made = new_encoder(sqlite_store, report={"calibration": {"tolerance": tolerance, "conformal": {"n": 0}}})
    with sqlite_store.session() as tx:
        found = Calibrations().of(encoders.get_by_ref(tx, made.id))
    assert (found.tolerance, found.conformal) == (None, None)
    assert len(caplog.records) == 2
