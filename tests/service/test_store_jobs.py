"""Jobs: what each operation does, on both databases."""

from __future__ import annotations

import math

import pytest

from service.errors import LostLease, NotFound, StateConflict
from service.store import events, jobs

CHECKPOINT = "sha256:" + "a" * 64


def states(store, job_id):
    with store.session() as tx:
        return [event.data["state"] for event in events.list_after(tx, job_id) if event.type == "state"]


def read(store, job_id):
    with store.session() as tx:
        return jobs.get(tx, job_id)


def reap(store, **changes):
    with store.begin() as tx:
        return jobs.reap(tx, **{"max_attempts_without_checkpoint": 3, "republish_after_s": 30, **changes})


def test_a_new_job_is_queued_and_says_so(store, new_job):
    job = new_job(store, warnings=[{"code": "certificate_out_of_reach", "detail": "sigma 0.3 would fit"}])
    assert read(store, job.id) == job
    assert (job.state, job.attempt, job.fence, job.dataset) == ("queued", 0, 0, "digits")
    assert states(store, job.id) == ["queued"]
    assert job.evolve(state="running").state == "running"


@pytest.mark.parametrize(
    "strange", ["", "job_", "job_\x00", "job_" + "u" * 26, "enc_" + "0" * 26, "../x", "\ud800"]
)
def test_what_is_no_id_is_not_found(store, strange):
    with store.begin() as tx:
        assert jobs.get(tx, strange) is None
        assert jobs.take_lease(tx, strange, owner="w", lease_s=1) is None
        assert events.list_after(tx, strange) == []
        with pytest.raises(NotFound):
            jobs.request_cancel(tx, strange)
        with pytest.raises(NotFound):
            jobs.retry(tx, strange)


def test_one_lease_at_a_time(store, new_job, take, expire):
    job = new_job(store)
    first = take(store, job.id, "a")
    with store.begin() as tx:
        assert jobs.take_lease(tx, job.id, owner="b", lease_s=60) is None
    expire(store, job.id)
    second = take(store, job.id, "b")
    assert (first.fence, second.fence) == (1, 2)
    assert second.job.attempt == 2
    assert second.job.started_at == first.job.started_at


def test_a_stale_fence_writes_nothing(store, new_job, take, expire):
    job = new_job(store)
    stale = take(store, job.id, "a")
    expire(store, job.id)
    take(store, job.id, "a")
    before = read(store, job.id)
    writes = [
        lambda tx: jobs.add_events(tx, stale, [("log", {"line": "x"})]),
        lambda tx: jobs.set_resolved(tx, stale, {}),
        lambda tx: jobs.add_warning(tx, stale, "c", "d"),
        lambda tx: jobs.add_checkpoint(tx, stale, CHECKPOINT, 1),
        lambda tx: jobs.fail(tx, stale, "c", "m"),
        lambda tx: jobs.cancelled(tx, stale),
        lambda tx: jobs.release(tx, stale),
        lambda tx: jobs.abandon(tx, stale),
    ]
    for write in writes:
        with pytest.raises(LostLease), store.begin() as tx:
            write(tx)
    with store.begin() as tx:
        assert jobs.heartbeat(tx, stale, 60) == jobs.HeartbeatAnswer(alive=False, cancel_requested=False)
    assert read(store, job.id) == before


def test_heartbeat_extends_and_carries_the_cancel(store, new_job, take):
    job = new_job(store)
    lease = take(store, job.id)
    with store.begin() as tx:
        assert jobs.heartbeat(tx, lease, 600) == jobs.HeartbeatAnswer(alive=True, cancel_requested=False)
        assert jobs.get(tx, job.id).lease_until > lease.until
        jobs.request_cancel(tx, job.id)
        assert jobs.heartbeat(tx, lease, 600) == jobs.HeartbeatAnswer(alive=True, cancel_requested=True)


def test_events_change_the_row_and_keep_their_order(store, new_job, take):
    job = new_job(store, warnings=[{"code": "early", "detail": ""}])
    lease = take(store, job.id)
    warning = {"code": "matching_collapsed", "detail": "raise the noise"}
    with store.begin() as tx:
        last = jobs.add_events(
            tx,
            lease,
            [
                ("progress", {"step": 1}),
                ("metric", {"loss": math.nan, "mi_nats": 1.0}),
                ("progress", {"step": 2}),
                ("metric", {"loss": -math.inf, "capacity_nats": 2.0}),
                ("warning", warning),
                ("warning", warning),
                ("log", {"line": "NUL \x00, a surrogate \ud800 and σ"}),
            ],
        )
    seen = read(store, job.id)
    assert seen.progress == {"step": 2}
    assert seen.metrics == {"loss": None, "mi_nats": 1.0, "capacity_nats": 2.0}
    assert seen.warnings == [{"code": "early", "detail": ""}, warning]
    with store.session() as tx:
        stored = events.list_after(tx, job.id)
        assert [event.id for event in stored] == list(range(1, last + 1))
        assert [event.type for event in stored[2:5]] == ["progress", "metric", "progress"]
        assert stored[-1].data["line"].startswith("NUL \x00")
        assert events.list_after(tx, job.id, after=last - 1) == stored[-1:]
        assert events.list_after(tx, job.id, after=-5, limit=2) == stored[:2]
        assert events.list_after(tx, job.id, after=10**30) == []


def test_a_worker_cannot_write_states(store, new_job, take):
    lease = take(store, new_job(store).id)
    with pytest.raises(ValueError, match="log, metric"), store.begin() as tx:
        jobs.add_events(tx, lease, [("state", {"state": "succeeded"})])


def test_success_registers_the_encoder(store, new_job, take, finish):
    job = new_job(store, encoder="faces")
    encoder = finish(store, take(store, job.id))
    ended = read(store, job.id)
    assert ended.state == "succeeded"
    assert ended.result == {"name": "faces", "version": 1, "id": encoder.id}
    assert ended.finished_at >= ended.started_at >= ended.created_at
    assert (ended.lease_owner, ended.lease_until) == (None, None)
    assert encoder.job_id == job.id
    assert states(store, job.id) == ["queued", "running", "succeeded"]


def test_failure_says_why(store, new_job):
    job = new_job(store)
    with store.begin() as tx:
        failed = jobs.fail(tx, lease_in(tx, job.id), "out_of_memory", "σ\x00")
    assert failed.failure == {"code": "out_of_memory", "message": "σ\x00"}
    assert read(store, job.id) == failed


def lease_in(tx, job_id):
    return jobs.take_lease(tx, job_id, owner="w", lease_s=60)


def test_terminal_states_never_change(store, new_job, take, finish, expire):
    job = new_job(store)
    lease = take(store, job.id)
    finish(store, lease)
    before = read(store, job.id)
    with pytest.raises(LostLease):
        finish(store, lease)
    with pytest.raises(StateConflict), store.begin() as tx:
        jobs.request_cancel(tx, job.id)
    with store.begin() as tx:
        assert jobs.take_lease(tx, job.id, owner="b", lease_s=60) is None
    expire(store, job.id)
    reap(store, republish_after_s=-1)
    assert read(store, job.id) == before


def test_a_queued_job_is_cancelled_at_once_and_again(store, new_job):
    job = new_job(store)
    for _ in range(2):
        with store.begin() as tx:
            assert jobs.request_cancel(tx, job.id).state == "cancelled"
    assert states(store, job.id) == ["queued", "cancelled"]


@pytest.mark.parametrize("way", ["cancelled", "fail", "release", "succeed", "reap"])
def test_an_accepted_cancel_is_binding(store, new_job, take, finish, expire, way):
    job = new_job(store)
    lease = take(store, job.id)
    with store.begin() as tx:
        assert jobs.request_cancel(tx, job.id).state == "running"
    if way == "succeed":
        assert finish(store, lease) is None
    elif way == "reap":
        expire(store, job.id)
        with store.begin() as tx:
            assert jobs.take_lease(tx, job.id, owner="late", lease_s=60) is None
        assert reap(store).cancelled == (job.id,)
    else:
        arguments = ("code", "message") if way == "fail" else ()
        with store.begin() as tx:
            getattr(jobs, way)(tx, lease, *arguments)
    assert read(store, job.id).state == "cancelled"
    assert states(store, job.id) == ["queued", "running", "cancelled"]


def test_a_drain_is_no_attempt_without_checkpoint(store, new_job, take):
    job = new_job(store)
    for _ in range(5):
        lease = take(store, job.id)
        with store.begin() as tx:
            jobs.release(tx, lease)
    drained = read(store, job.id)
    assert (drained.state, drained.attempt, drained.attempts_without_checkpoint) == ("queued", 5, 0)
    assert [each.job_id for each in reap(store).publish] == [job.id]


def test_attempts_without_checkpoint_end_poisoned(store, new_job, take):
    job = new_job(store)
    for attempt in (1, 2):
        with store.begin() as tx:
            jobs.abandon(tx, lease_in(tx, job.id))
        assert reap(store).requeued == (job.id,)
        assert read(store, job.id).attempts_without_checkpoint == attempt
    with store.begin() as tx:
        jobs.abandon(tx, lease_in(tx, job.id))
    assert reap(store).failed == (job.id,)
    assert read(store, job.id).failure["code"] == "poison"


def test_a_checkpoint_counts_from_zero_again(store, new_job, take, expire):
    job = new_job(store)
    for step in range(6):
        lease = take(store, job.id)
        if step % 2:
            with store.begin() as tx:
                jobs.add_checkpoint(tx, lease, f"sha256:{step:064x}", step)
        expire(store, job.id)
        assert reap(store).requeued == (job.id,)
    kept = read(store, job.id)
    assert (kept.checkpoint_digest, kept.checkpoint_step) == (f"sha256:{5:064x}", 5)
    assert (kept.attempt, kept.attempts_without_checkpoint) == (6, 0)


def test_the_checkpoint_before_may_go_unless_another_job_needs_it(store, new_job, take):
    old = new_job(store)
    lease = take(store, old.id)
    with store.begin() as tx:
        assert jobs.add_checkpoint(tx, lease, CHECKPOINT, 1) is None
        assert jobs.add_checkpoint(tx, lease, CHECKPOINT, 1) is None
        assert jobs.add_checkpoint(tx, lease, "sha256:" + "b" * 64, 2) == CHECKPOINT
        jobs.fail(tx, lease, "crashed", "")
        new = jobs.retry(tx, old.id)
        lease = lease_in(tx, new.id)
        assert jobs.add_checkpoint(tx, lease, "sha256:" + "c" * 64, 3) is None


def test_retry_is_a_new_job_from_the_last_checkpoint(store, new_job, take):
    physics = {"code": "certificate_out_of_reach", "detail": ""}
    old = new_job(store, warnings=[physics], priority="high")
    lease = take(store, old.id)
    with pytest.raises(StateConflict), store.begin() as tx:
        jobs.retry(tx, old.id)
    with store.begin() as tx:
        jobs.add_checkpoint(tx, lease, CHECKPOINT, 7)
        jobs.add_warning(tx, lease, "loss_unstable", "lower the learning rate")
        jobs.set_resolved(tx, lease, {"sigma": 0.5, "dtype": "bfloat16"})
        jobs.fail(tx, lease, "crashed", "")
        new = jobs.retry(tx, old.id)
    assert new.retry_of == old.id
    assert new.id != old.id
    assert (new.state, new.attempt, new.priority) == ("queued", 0, "high")
    assert (new.checkpoint_digest, new.checkpoint_step) == (CHECKPOINT, 7)
    assert new.resolved == {"sigma": 0.5, "dtype": "bfloat16"}
    assert new.warnings == [physics]
    assert read(store, old.id).state == "failed"


def test_counting_and_listing_by_state(store, new_job, take):
    waiting = [new_job(store).id for _ in range(3)]
    take(store, waiting[0])
    with store.session() as tx:
        assert jobs.count_waiting(tx) == 2
        assert [job.id for job in jobs.list_(tx).items] == waiting[::-1]
        assert [job.id for job in jobs.list_(tx, state="running").items] == waiting[:1]


def test_reading_cannot_write(store, new_job):
    with pytest.raises(Exception, match=r"read-?only"), store.session() as tx:
        jobs.create(tx, kind="train", spec={}, resolved={}, warnings=[], encoder="e", priority="low")
    assert new_job(store).state == "queued"


def test_an_exception_rolls_everything_back(store, new_job, take):
    job = new_job(store)

    def break_off():
        with store.begin() as tx:
            lease_in(tx, job.id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert read(store, job.id) == job


def test_a_list_leaves_long_lists_of_points_out(store, new_job):
    points = [[float(i), 0.25] for i in range(5000)]
    law = {"kind": "flow", "points": points}
    long = new_job(store, spec={"dataset": "digits", "epochs": 3, "prior": law})
    short = new_job(store, spec={"dataset": "digits", "prior": {**law, "points": points[:3]}})
    assert read(store, long.id).spec["prior"] == law
    with store.session() as tx:
        listed = {job.id: job for job in jobs.list_(tx).items}
    assert listed[long.id].spec == {"dataset": "digits", "epochs": 3, "prior": {"kind": "flow"}}
    assert listed[short.id] == short
    assert listed[long.id].evolve(spec=long.spec) == long
