"""run_job: one attempt at one job, from the lease to exactly one way of letting go of it.

    take the lease ─▶ fetch dataset and checkpoint ─▶ child ─▶ succeed | fail | cancelled
         │ none                                          ├───▶ release    (drain: back to the queue)
         ▼                                               ├───▶ abandon    (it crashed: the next attempt resumes)
      dropped                                            └───▶ lost       (another worker has it: write nothing)

No Celery and no torch in here: this process must outlive whatever the training does.
"""

from __future__ import annotations

import enum
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from service import logs
from service.errors import LostLease
from service.queue import Publish
from service.settings import Settings
from service.store import Store, counters, events, jobs
from service.store.jobs import Lease
from service.tracing import Phases, Tracer, remembered
from worker.classify import Verdict, classify, classify_exit, last_line, out_of_attempts
from worker.control import Control, Reason
from worker.inputs import prepare
from worker.process import Child
from worker.relay import DATABASE_DOWN, Outputs, Relay
from worker.starting import Afresh, Start

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
"""Errors of files that waiting does not mend."""


class Altered(Exception):
    """What the child wrote is not there any more as it was; the next attempt writes it anew."""


def is_passing(error: Exception) -> bool:
    """Whether the same may go well later: a full disk, blobs or a database that do not answer."""
    return isinstance(error, (OSError, *DATABASE_DOWN)) and not isinstance(error, LASTING)


class Outcome(enum.StrEnum):
    """How an attempt ended."""

    DROPPED = "dropped"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    ABANDONED = "abandoned"
    LOST = "lost"


def run_job(
    job_id: str,
    *,
    store: Store,
    settings: Settings,
    owner: str,
    publish: Publish,
    should_drain: Callable[[], bool] = lambda: False,
    start: Start | None = None,
    tracer: Tracer | None = None,
) -> Outcome:
    """Work on the job if it is free. Raises nothing that a training does; only what the database does at the start."""
    with store.begin() as tx:
        lease = jobs.take_lease(tx, job_id, owner=owner, lease_s=settings.lease_s)
        first = events.list_after(tx, job_id, limit=1) if lease else []
        if lease is not None:
            counters.add(tx, counters.ATTEMPTS_STARTED)
    if lease is None:
        _drop(store, job_id)
        return Outcome.DROPPED
    tracer, start = tracer or Tracer(), start or Afresh()
    request_id, parent = remembered(first[0].data if first else {})
    told = {"job_id": job_id, "attempt": lease.job.attempt, "request_id": request_id}
    with logs.bound(**told), tracer.span("attempt", parent=parent, kind="consumer", **told) as span:
        outcome = _attempt(lease, store, settings, should_drain, start, tracer)
        span.set(attributes={"outcome": outcome.value})
        return _ended(lease, outcome, store, publish)


def _attempt(
    lease: Lease,
    store: Store,
    settings: Settings,
    should_drain: Callable[[], bool],
    start: Start,
    tracer: Tracer,
) -> Outcome:
    log.info("job %s: attempt %d", lease.job_id, lease.job.attempt)
    with (
        scratch_dir(settings.data_dir / "scratch", lease) as scratch,
        Control(store, lease, settings, should_drain=should_drain) as control,
    ):
        try:
            return Attempt(store, settings, lease, control, scratch, tracer).run(start)
        except LostLease:
            return Outcome.CANCELLED if control.ended else Outcome.LOST


def _ended(lease: Lease, outcome: Outcome, store: Store, publish: Publish) -> Outcome:
    job_id = lease.job_id
    log.info("job %s: %s", job_id, outcome.value)
    counters.note(store, counters.ATTEMPTS_ENDED, outcome.value)
    if outcome in (Outcome.RELEASED, Outcome.ABANDONED) and not publish(job_id, lease.job.priority):
        counters.note(store, counters.PUBLISH_FAILURES)  # the reaper does it later
    return outcome


def _drop(store: Store, job_id: str) -> None:
    """A message about a job that somebody has or that has ended is late; one about no job is forged or very late."""
    with store.session() as tx:
        known = jobs.get(tx, job_id) is not None
    if known:
        log.info("job %s: not free, message dropped", job_id)
    else:
        log.warning("a message names a job that does not exist and is dropped")
    counters.note(store, counters.MESSAGES_DROPPED, counters.NOT_FREE if known else counters.UNKNOWN_JOB)


@contextmanager
def scratch_dir(root: Path, lease: Lease) -> Iterator[Path]:
    """A directory of this attempt's own; what killed attempts at the same job left is removed first."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in root.glob(f"{lease.job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    path = root / f"{lease.job_id}-{lease.fence}"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Attempt:
    """The moving parts of one attempt."""

    store: Store
    settings: Settings
    lease: Lease
    control: Control
    scratch: Path
    tracer: Tracer

    def run(self, start: Start) -> Outcome:
        """Train, then let go of the job. Raises LostLease."""
        phases = Phases(self.tracer)
        relay = Relay(self.store, self.settings, self.lease, self.scratch, phases)
        try:
            verdict = self._train(start, relay, phases)
            if relay.outputs is not None and self.control.reason is not Reason.CANCEL:
                return self._succeed(relay.outputs)
        except LostLease:
            raise
        except Exception as error:
            log.exception("job %s: the attempt broke", self.lease.job_id)
            verdict = classify(error)
        return self._let_go(relay, verdict)

    def _train(self, start: Start, relay: Relay, phases: Phases) -> Verdict:
        """Run the child to its end; the verdict in case it left no result."""
        with self.tracer.span("prepare"):
            job_file = self._patiently(
                lambda: prepare(self.store, self.settings, self.lease.job, self.scratch)
            )
        self._go_on_unless_ended()
        phases.enter("starting")
        child = Child(start, scratch=self.scratch, job_file=job_file)
        code = None
        try:
            self.control.attach(child)
            for line in child.lines():
                relay.see(line)
        finally:
            code = child.close()
            phases.leave()
        words = child.words()
        verdict = relay.failed or classify_exit(code, words, oom_killed=child.oom_killed())
        if relay.outputs is None and not relay.stopped and self.control.reason is None:
            self._note_crash(relay, verdict, words)
        relay.flush()
        return verdict

    def _note_crash(self, relay: Relay, verdict: Verdict, words: str) -> None:
        log.warning("job %s: %s\n%s", self.lease.job_id, verdict.message, words)
        relay.add("log", {"message": verdict.message, "code": verdict.code, "output": last_line(words)})

    def _succeed(self, outputs: Outputs) -> Outcome:
        with self.tracer.span("store"):
            size = self._store_files(outputs)
        encoder = self._write(
            lambda tx: jobs.succeed(
                tx,
                self.lease,
                manifest=outputs.manifest,
                report=outputs.report,
                spec=outputs.spec,
                resolved=outputs.resolved,
                dim=outputs.dim,
                prior=outputs.prior,
                size=size,
            )
        )
        return Outcome.CANCELLED if encoder is None else Outcome.SUCCEEDED

    def _store_files(self, outputs: Outputs) -> int:
        """The bundle's files as blobs; their size together. Raises Altered if a file is not what the child wrote."""
        total = 0
        for name, facts in outputs.manifest["files"].items():
            self._go_on_unless_ended()
            digest, size = self._patiently(partial(self.store.blobs.put_file, outputs.directory / name))
            if digest != f"sha256:{facts['sha256']}" or size != facts["size"]:
                raise Altered(f"{name} of the bundle changed after it was written")
            total += size
        return total

    def _go_on_unless_ended(self) -> None:
        """Raises LostLease where the job was cancelled meanwhile."""
        if self.control.ended:
            raise LostLease

    def _let_go(self, relay: Relay, verdict: Verdict) -> Outcome:
        self._go_on_unless_ended()
        reason = self.control.reason
        if reason is Reason.LOST:
            return Outcome.LOST
        if reason is Reason.CANCEL:
            self._write(lambda tx: jobs.cancelled(tx, self.lease))
            return Outcome.CANCELLED
        if (reason is Reason.DRAIN or relay.stopped) and (relay.failed is None or verdict.retry):
            job = self._write(lambda tx: jobs.release(tx, self.lease))
            return Outcome.CANCELLED if job.state == "cancelled" else Outcome.RELEASED
        if verdict.retry and relay.advanced:
            self._write(lambda tx: jobs.abandon(tx, self.lease))
            return Outcome.ABANDONED
        return self._count(verdict)

    def _count(self, verdict: Verdict) -> Outcome:
        """No progress: one more of few attempts, or the end."""
        attempts = self.lease.job.attempts_without_checkpoint
        if verdict.retry and attempts < self.settings.max_attempts_without_checkpoint:
            self._write(lambda tx: jobs.abandon(tx, self.lease))
            return Outcome.ABANDONED
        final = out_of_attempts(verdict, attempts) if verdict.retry else verdict
        job = self._write(lambda tx: jobs.fail(tx, self.lease, final.code, final.message))
        return Outcome.CANCELLED if job.state == "cancelled" else Outcome.FAILED

    def _patiently(self, action: Callable[[], T]) -> T:
        """``action``, again and again while disk, blobs or database fail; the training is done or can wait.

        Not for ever, and not once the worker is wanted back or has lost the job.
        """
        until, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            try:
                return action()
            except Exception as error:
                if not is_passing(error) or self.control.reason or time.monotonic() > until:
                    raise
                log.warning("job %s: waiting for the store: %s", self.lease.job_id, error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _write(self, write: Callable[[Session], T]) -> T:
        """A write that ends the attempt is worth waiting for, as long as the lease is ours. Raises LostLease."""
        while True:
            try:
                with self.store.begin() as tx:
                    return write(tx)
            except DATABASE_DOWN as error:
                if self.control.reason is Reason.LOST:
                    raise LostLease from error
                log.warning("job %s: waiting for the database: %s", self.lease.job_id, error)
                time.sleep(0.5)
