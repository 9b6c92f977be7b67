"""Stores that fail for a while under an attempt: it waits, and it costs neither the training nor an attempt."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from service.errors import BlobsUnavailable, StoreBusy
from service.store import jobs
from worker import runner
from worker.control import Control
from worker.runner import Outcome


@pytest.fixture
def failing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``failing(*errors)``: the next calls of the blobs raise these; what is left of them."""

    def make(*errors: Exception) -> list[Exception]:
        left = list(errors)

        def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
            def refuse(*given: Any, **options: Any) -> Any:
                if left:
                    raise left.pop(0)
                return call(*given, **options)

            return refuse

        for name in ("put_file", "fetch"):
            monkeypatch.setattr(bench.store.blobs, name, refusing(getattr(bench.store.blobs, name)))
        return left

    return make


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, BlobsUnavailable(), ConnectionResetError()])
def test_a_finished_bundle_waits_for_its_store(bench: Any, failing: Any, error: Exception) -> None:
    left = failing(error, error)
    job = bench.job()
    assert bench.run(job, "slow") is Outcome.SUCCEEDED
    assert not left
    assert bench.read(job).attempt == 1


def test_a_checkpoint_that_cannot_be_fetched_yet_is_waited_for(bench: Any, failing: Any) -> None:
    """Without waiting, an outage of a second would use up all attempts of every job that has a checkpoint."""
    job = bench.job()
    assert bench.run(job, "killed_after_checkpoint") is Outcome.ABANDONED
    failing(BlobsUnavailable(), BlobsUnavailable(), BlobsUnavailable())
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    assert bench.read(job).attempt == 2


def test_who_waits_for_a_store_still_hears_a_cancel_and_a_drain(bench: Any, failing: Any) -> None:
    failing(*[FULL] * 1000)
    cancelled, drained = bench.job(encoder="cancelled"), bench.job(encoder="drained")
    running = bench.start(cancelled, "slow")
    bench.wait_until_ready(cancelled)
    with bench.store.begin() as tx:
        jobs.request_cancel(tx, cancelled.id)
    assert running.result() is Outcome.CANCELLED
    leaving: list[bool] = []
    running = bench.start(drained, "slow", should_drain=lambda: bool(leaving))
    bench.wait_until_ready(drained)
    leaving.append(True)
    assert running.result() is Outcome.RELEASED
    assert bench.read(drained).attempts_without_checkpoint == 0


def test_a_store_that_stays_away_ends_the_job_with_the_reason(
    bench: Any, failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE_S", 0.1)
    failing(*[FULL] * 1000)
    job = bench.job()
    outcomes = [bench.run(job, "slow") for _ in range(3)]
    assert outcomes == [Outcome.ABANDONED, Outcome.ABANDONED, Outcome.FAILED]
    assert bench.read(job).failure["code"] == "disk_full"


@pytest.mark.parametrize("error", [OperationalError("UPDATE", {}, Exception("away")), StoreBusy()], ids=str)
def test_a_database_that_is_away_when_the_training_begins_costs_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write, tries = jobs.set_resolved, []

    def away_at_first(*given: Any) -> None:
        tries.append(given)
        if len(tries) < 3:
            raise error
        write(*given)

    monkeypatch.setattr(jobs, "set_resolved", away_at_first)
    job = bench.job()
    assert bench.run(job, "succeed") is Outcome.SUCCEEDED
    assert len(tries) >= 3
    ended = bench.read(job)
    assert ended.attempt == 1
    assert ended.metrics["mi_nats"] == 1.5


@pytest.mark.parametrize("error", [StoreBusy(), RuntimeError("a bug of ours")], ids=repr)
def test_a_cancel_is_seen_after_whatever_a_look_at_the_database_raised(
    bench: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    beat, raised = jobs.heartbeat, []

    def failing_at_first(*given: Any) -> Any:
        raised.append(given)
        if len(raised) < 3:
            raise error
        return beat(*given)

    monkeypatch.setattr(jobs, "heartbeat", failing_at_first)
    monkeypatch.setattr(Control, "_look", lambda self: None)
    job = bench.job()
    running = bench.start(job, "polite")
    bench.wait_until_ready(job)
    with bench.store.begin() as tx:
        jobs.request_cancel(tx, job.id)
    assert running.result() is Outcome.CANCELLED
    assert len(raised) >= 3
