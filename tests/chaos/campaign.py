"""A campaign: one stack, one stream of load, one fault after the other, and what came of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from service.store import Store
from tests.chaos import invariants, verdicts
from tests.chaos.faults import Fault, NotInjected, Scene, of_column
from tests.chaos.load import PATIENCE_S, Load
from tests.chaos.processes import wait_for
from tests.chaos.stacks import COLUMNS, FULL, SHORT, Stack

CALM_S = (0.2, 1.0)
WORK_S = 30.0
TRIES = 3
"""So often a fault is tried that did not happen."""
BROKEN_S = 180.0
"""Not recovered by then: a violation."""
BUSY_PATIENCE_S = 60.0
"""Of a client in the short form, beside other tests on the same cores; ``slowest_embedding_s`` says what it took."""
SNAPSHOT = """
SELECT id, state, attempt, (
    SELECT COALESCE(MAX(events.id), 0) FROM events WHERE events.job_id = jobs.id
    AND events.type IN ('progress', 'checkpoint', 'log') AND CAST(events.data AS TEXT) NOT LIKE '%"output"%'
) AS last_said FROM jobs
"""
"""``last_said``: the last event that came from a training, not from its runner's mouth about a crash."""
Say = Callable[[str], None]
Keep = Callable[["Result"], None]
"""Called with all that is known, after every fault and at the end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do. ``names``: these faults in this order instead of ``faults`` drawn ones.

    After ``minutes`` no further fault is injected.
    """

    column: str
    seed: int
    faults: int = 100
    minutes: float = 60.0
    names: tuple[str, ...] = ()
    short: bool = False
    epochs: int = 12
    seeds: int = 2
    jobs: int = 2
    disks: bool = True


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One fault: how long it lasted, and until everything moved again, from its end and from its beginning."""

    name: str
    at_s: float
    lasted_s: float
    recovery_s: float
    outage_s: float
    recovered: bool


@dataclass
class Result:
    """What a campaign found. ``missed``: faults that did not happen, and why; they do not count.

    ``complete``: every check was made. Without it no violation means nothing.
    """

    plan: dict[str, Any]
    complete: bool = False
    hits: list[Hit] = field(default_factory=list)
    missed: list[dict[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def draw(plan: Plan, dice: random.Random) -> Iterator[Fault]:
    """Every fault of the column about equally often, in random order; without end, unless they are named."""
    known = {fault.name: fault for fault in of_column(plan.column)}
    if plan.names:
        yield from (known[name] for name in plan.names)
        return
    while True:
        bag = list(known.values())
        dice.shuffle(bag)
        yield from bag


def run(plan: Plan, directory: Path, say: Say = lambda _: None, keep: Keep = lambda _: None) -> Result:
    """Start, shake, check, stop. Raises nothing that a fault does."""
    stack = COLUMNS[plan.column](directory, SHORT if plan.short else FULL, disks=plan.disks)
    result = Result(plan=asdict(plan))
    try:
        stack.start()
        _Campaign(stack, plan, result, say, keep).run()
    finally:
        stack.close()
    result.violations += invariants.leftovers(stack)
    result.complete = True
    keep(result)
    return result


class _Campaign:
    """One run on a stack that has started."""

    def __init__(self, stack: Stack, plan: Plan, result: Result, say: Say, keep: Keep) -> None:
        self._stack, self._plan, self._result, self._say, self._keep = stack, plan, result, say, keep
        self._dice = random.Random(plan.seed)
        self._load = Load(
            stack,
            seed=plan.seed,
            seeds=plan.seeds,
            epochs=plan.epochs,
            in_flight=plan.jobs,
            patience_s=BUSY_PATIENCE_S if plan.short else PATIENCE_S,
        )
        self._windows: list[verdicts.Window] = []

    def run(self) -> None:
        """The load, the faults, the checks."""
        self._load.prepare()
        orphans, store = invariants.OrphanWatch(self._stack), self._stack.open_store()
        scene = Scene(self._stack, store, self._dice, self._load)
        self._load.start()
        self._began = time.monotonic()
        try:
            self._shake(scene)
            self._load.pause_submissions()
            self._say("waiting for the last jobs")
            _settle(store, self._load, self._result)
            self._load.stop()
            self._check()
            self._result.violations += orphans.close()
            self._result.counts["looks_for_orphans"] = orphans.looks
            self._result.notes |= scene.notes
            if not self._stack.stop():
                self._violated("a part did not leave by itself when the stack was stopped")
        finally:
            self._load.stop()
            orphans.close()
            store.close()

    def _shake(self, scene: Scene) -> None:
        for fault in draw(self._plan, self._dice):
            for _ in range(TRIES):
                if time.monotonic() - self._began > 60 * self._plan.minutes:
                    self._result.notes["stopped"] = f"after {self._plan.minutes:g} minutes"
                    return
                time.sleep(self._dice.uniform(*CALM_S) if not self._plan.short else 0.3)
                if self._one(fault, scene):
                    break
            if not self._plan.names and len(self._result.hits) >= self._plan.faults:
                return

    def _one(self, fault: Fault, scene: Scene) -> bool:
        """Whether the fault happened."""
        self._windows.append((time.monotonic(), fault))
        hit, why = inject(fault, scene, self._load, self._began)
        if why:
            self._result.missed.append({"name": fault.name, "why": why})
            self._say(f"     {fault.name:28s} did not happen: {why}")
        else:
            self._result.hits.append(hit)
            number = len(self._result.hits)
            self._say(
                f"{number:4d} {hit.name:28s} lasted {hit.lasted_s:5.1f} s  recovered {hit.recovery_s:6.1f} s"
            )
        if not hit.recovered:
            self._violated(f"{fault.name}: nothing moved for {BROKEN_S:.0f} s")
        for words in scene.stragglers():
            self._violated(f"{fault.name}: it was told to stop and did not leave: {words[:120]}")
        self._keep(self._result)
        return not why

    def _violated(self, words: str) -> None:
        self._result.violations.append(words)
        self._say(f"     VIOLATED: {words}")

    def _check(self) -> None:
        tally, counts = self._load.tally, invariants.check(self._stack, self._load)
        for words in (*counts.pop("violations"), *verdicts.unexcused(tally.embed_failures, self._windows)):
            self._violated(words)
        self._result.counts = counts | {
            "embeddings": tally.embedded,
            "slowest_embedding_s": round(tally.slowest_s, 1),
            "embed_failures": verdicts.by_fault(tally.embed_failures, self._windows),
            "submit_failures": tally.submit_failures,
            "seconds": round(time.monotonic() - self._began, 1),
        }


def _settle(store: Store, load: Load, result: Result) -> None:
    """Until every job has ended; those that do not are found by the checks."""
    try:
        wait_for(
            lambda: not load.submitting and not _alive(store), "every job ends", BROKEN_S * 2, every_s=0.5
        )
    except TimeoutError as error:
        result.violations.append(str(error))


def inject(fault: Fault, scene: Scene, load: Load, began: float) -> tuple[Hit, str]:
    """One fault, and how long it took until everything moved again; and why it did not happen, if so."""
    with suppress(TimeoutError):  # without a job at work there is less to break
        wait_for(lambda: _at_work(_snapshot(scene.store)), "a running job", WORK_S, every_s=0.1)
    before = wait_for(lambda: _snapshot(scene.store), "the database", 60)
    start, why = time.monotonic(), ""
    try:
        with fault.injected(scene):
            time.sleep(scene.random.uniform(*fault.hold_s))
    except NotInjected as error:
        why = str(error)
    over = time.monotonic()
    moved = _Movement(scene, load, before, needs_queue="redis" in fault.name or "broker" in fault.name)
    try:
        wait_for(moved, f"recovery from {fault.name}", BROKEN_S)
        recovered = True
    except TimeoutError:
        recovered = False
    now = time.monotonic()
    hit = Hit(
        name=fault.name,
        at_s=round(start - began, 1),
        lasted_s=round(over - start, 2),
        recovery_s=round(now - over, 2),
        outage_s=round(now - start, 2),
        recovered=recovered,
    )
    return hit, why


class _Movement:
    """True once embeddings are answered, every job that ran has moved, and, if asked, another job has started."""

    def __init__(self, scene: Scene, load: Load, before: dict[str, Any], *, needs_queue: bool) -> None:
        self._store, self._load = scene.store, load
        self._over = time.monotonic()
        ran = [job_id for job_id, row in before["jobs"].items() if row.state == "running"]
        self._last = dict.fromkeys(ran, -1)
        self._starts = -1
        self._needs_queue = needs_queue
        if after := _snapshot(scene.store):
            self._start_from(after)
            self._known = True
        else:
            self._known = False

    def _start_from(self, now: dict[str, Any]) -> None:
        rows = now["jobs"]
        self._last = {job_id: rows[job_id].last_said for job_id in self._last if job_id in rows}
        self._starts = now["starts"]

    def __call__(self) -> bool:
        if self._load.tally.last_embedded < self._over:
            return False
        now = _snapshot(self._store)
        if not now:
            return False
        if not self._known:  # the database was away when the fault was over
            self._start_from(now)
            self._known = True
        moved = all(
            row.last_said > last or row.state not in ("queued", "running")
            for job_id, last in self._last.items()
            if (row := now["jobs"].get(job_id)) is not None
        )
        return moved and (not self._needs_queue or now["starts"] > self._starts)


def _snapshot(store: Store) -> dict[str, Any]:
    """Every job's state and last sign of life, and how many attempts began; empty if the database does not answer."""
    try:
        with store.session() as tx:
            rows = tx.execute(text(SNAPSHOT)).all()
    except Exception:
        return {}
    return {"jobs": {row.id: row for row in rows}, "starts": sum(row.attempt for row in rows)}


def _at_work(snapshot: dict[str, Any]) -> bool:
    """Whether a training has said something."""
    return any(row.state == "running" and row.last_said for row in snapshot.get("jobs", {}).values())


def _alive(store: Store) -> bool:
    snapshot = _snapshot(store)
    return not snapshot or any(row.state in ("queued", "running") for row in snapshot["jobs"].values())
