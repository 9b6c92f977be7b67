"""The job's state machine against a model: several workers, expiry, cancel, retry, reaper, on both databases.

The model knows what every operation must do, stale leases included. After each step the database must agree with it,
and what was promised must hold: terminal states never change, at most one encoder per job, the fence only rises,
event ids rise without a terminal state anywhere but at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, text

from service.errors import LostLease, StateConflict
from service.store import Store, events, jobs
from service.store.tables import EncoderRow

MAX_ATTEMPTS = 2
FEW = 3
"""So many jobs in one run, so that operations meet on the same one."""
MANIFEST = {"digest": "sha256:" + "0" * 64, "files": {}}


@dataclass
class Model:
    """What a job must look like."""

    state: str = "queued"
    fence: int = 0
    attempt: int = 0
    without_checkpoint: int = 0
    cancel: bool = False
    expired: bool = False
    abandoned: bool = False
    checkpoint: str | None = None
    states: list[str] = field(default_factory=lambda: ["queued"])

    def move(self, state: str) -> None:
        assert self.state not in jobs.TERMINAL
        self.state = state
        self.expired = self.abandoned = False
        self.states.append(state)

    def let_go(self, state: str) -> str:
        """A worker's last word; a cancel that was accepted is stronger."""
        self.move("cancelled" if self.cancel else state)
        return self.state


class JobMachine(RuleBasedStateMachine):
    """Operations in any order, by any worker, with any lease that ever was."""

    job_ids = Bundle("job_ids")
    leases = Bundle("leases")
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.steps = 0

    @precondition(lambda self: len(self.models) < FEW)
    @rule(target=job_ids)
    def create(self) -> str:
        with self.store.begin() as tx:
            job = jobs.create(
                tx,
                kind="train",
                spec={"dataset": "digits"},
                resolved={},
                warnings=[],
                encoder="e",
                priority="low",
            )
        self.models[job.id] = Model()
        return job.id

    @rule(target=leases, job_id=job_ids, owner=st.sampled_from("ab"))
    def take(self, job_id: str, owner: str):
        model = self.models[job_id]
        free = model.state == "queued" or (model.state == "running" and model.expired)
        with self.store.begin() as tx:
            lease = jobs.take_lease(tx, job_id, owner=owner, lease_s=600)
        assert (lease is not None) == (free and not model.cancel)
        if lease is None:
            return multiple()
        model.fence += 1
        model.attempt += 1
        model.without_checkpoint += 1
        model.move("running")
        assert lease.fence == model.fence
        return lease

    @rule(job_id=job_ids)
    def expire(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.state == "running":
            model.expired = True
            with self.store.begin() as tx:
                tx.execute(text("UPDATE jobs SET lease_until = 1 WHERE id = :id"), {"id": job_id})

    @rule(lease=leases)
    def heartbeat(self, lease: jobs.Lease) -> None:
        model = self.models[lease.job_id]
        with self.store.begin() as tx:
            answer = jobs.heartbeat(tx, lease, 600)
        alive = self.is_current(lease)
        assert answer == jobs.HeartbeatAnswer(alive=alive, cancel_requested=alive and model.cancel)
        model.expired = model.expired and not alive

    @rule(lease=leases)
    def report(self, lease: jobs.Lease) -> None:
        self.write(
            lease, lambda tx: jobs.add_events(tx, lease, [("log", {"line": "x"}), ("metric", {"loss": 1.0})])
        )

    @rule(lease=leases)
    def checkpoint(self, lease: jobs.Lease) -> None:
        self.steps += 1
        digest = f"sha256:{self.steps:064x}"
        if self.write(lease, lambda tx: jobs.add_checkpoint(tx, lease, digest, self.steps)):
            model = self.models[lease.job_id]
            model.without_checkpoint, model.checkpoint = 0, digest

    @rule(lease=leases)
    def same_checkpoint(self, lease: jobs.Lease) -> None:
        """Of the step that is stored already, as a training writes that was interrupted before its next one."""
        model = self.models[lease.job_id]
        if model.checkpoint is not None:
            digest, step = model.checkpoint, int(model.checkpoint.removeprefix("sha256:"), 16)
            self.write(lease, lambda tx: jobs.add_checkpoint(tx, lease, digest, step))

    @rule(lease=leases, how=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def end(self, lease: jobs.Lease, how: str) -> None:
        model = self.models[lease.job_id]
        if how == "cancelled" and not model.cancel:
            return
        answers = []
        if self.write(lease, lambda tx: answers.append(self.last_word(tx, lease, how))):
            state = model.let_go(how)
            if how == "succeeded":
                assert (answers[0] is not None) == (state == "succeeded")

    def last_word(self, tx, lease: jobs.Lease, how: str):
        if how == "succeeded":
            return jobs.succeed(
                tx, lease, manifest=MANIFEST, report={}, spec={}, resolved={}, dim=1, prior={}, size=0
            )
        if how == "failed":
            return jobs.fail(tx, lease, "code", "message")
        return jobs.cancelled(tx, lease)

    @rule(lease=leases)
    def release(self, lease: jobs.Lease) -> None:
        if self.write(lease, lambda tx: jobs.release(tx, lease)):
            model = self.models[lease.job_id]
            if model.let_go("queued") == "queued":
                model.without_checkpoint = max(0, model.without_checkpoint - 1)

    @rule(lease=leases)
    def abandon(self, lease: jobs.Lease) -> None:
        if self.write(lease, lambda tx: jobs.abandon(tx, lease)):
            model = self.models[lease.job_id]
            model.expired = model.abandoned = True

    @rule(job_id=job_ids)
    def cancel(self, job_id: str) -> None:
        model = self.models[job_id]
        try:
            with self.store.begin() as tx:
                jobs.request_cancel(tx, job_id)
        except StateConflict:
            assert model.state in ("succeeded", "failed")
            return
        assert model.state in ("queued", "running", "cancelled")
        if model.state == "queued" or model.expired:
            model.move("cancelled")
        model.cancel = True

    @precondition(lambda self: len(self.models) < FEW)
    @rule(target=job_ids, job_id=job_ids)
    def retry(self, job_id: str):
        model = self.models[job_id]
        try:
            with self.store.begin() as tx:
                new = jobs.retry(tx, job_id)
        except StateConflict:
            assert model.state not in ("failed", "cancelled")
            return multiple()
        assert model.state in ("failed", "cancelled")
        self.models[new.id] = Model(checkpoint=model.checkpoint)
        return new.id

    @rule()
    def reap(self) -> None:
        with self.store.begin() as tx:
            reaped = jobs.reap(tx, max_attempts_without_checkpoint=MAX_ATTEMPTS, republish_after_s=60)
        judged = {job_id: model for job_id, model in self.models.items() if model.expired}
        assert set(judged) == {*reaped.requeued, *reaped.failed, *reaped.cancelled}
        for model in judged.values():
            model.let_go("failed" if model.without_checkpoint >= MAX_ATTEMPTS else "queued")
        queued = {job_id for job_id, model in self.models.items() if model.state == "queued"}
        assert {each.job_id for each in reaped.publish} == queued

    def is_current(self, lease: jobs.Lease) -> bool:
        model = self.models[lease.job_id]
        return model.state == "running" and model.fence == lease.fence and not model.abandoned

    def write(self, lease: jobs.Lease, action) -> bool:
        """Do it and say whether the fence let it through, which must be so if and only if the lease is current."""
        try:
            with self.store.begin() as tx:
                action(tx)
        except LostLease:
            assert not self.is_current(lease)
            return False
        assert self.is_current(lease)
        return True

    @invariant()
    def database_agrees(self) -> None:
        with self.store.session() as tx:
            for job_id, model in self.models.items():
                job = jobs.get(tx, job_id)
                assert job is not None
                assert (job.state, job.fence, job.attempt) == (model.state, model.fence, model.attempt)
                assert job.attempts_without_checkpoint == model.without_checkpoint
                assert (job.cancel_requested, job.checkpoint_digest) == (model.cancel, model.checkpoint)
                self.check_events(events.list_after(tx, job_id), job, model)
            registered = dict(
                tx.execute(select(EncoderRow.job_id, func.count()).group_by(EncoderRow.job_id)).all()
            )
        ended_well = [job_id for job_id, model in self.models.items() if model.state == "succeeded"]
        assert registered == dict.fromkeys(ended_well, 1)

    def check_events(self, stored: list[events.Event], job: jobs.Job, model: Model) -> None:
        assert [event.id for event in stored] == list(range(1, job.last_event_id + 1))
        assert [event.data["state"] for event in stored if event.type == "state"] == model.states
        ends = [event.id for event in stored if event.data.get("state") in jobs.TERMINAL]
        assert ends == ([job.last_event_id] if job.is_terminal else [])


@pytest.mark.slow
def test_the_state_machine(store):
    def machine() -> JobMachine:
        with store.begin() as tx:
            for table in ("encoders", "events", "jobs"):
                tx.execute(text(f"DELETE FROM {table}"))
        made = JobMachine()
        made.store = store
        return made

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
