"""A campaign: one stack, one stream of load, one fault after the other, and what came of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from service.store import Store
from tests.chaos import invariants
from tests.chaos.faults import Fault, Scene, of_column
from tests.chaos.load import Load
from tests.chaos.processes import wait_for
from tests.chaos.stacks import COLUMNS, FULL, SHORT, Stack

CALM_S = (0.5, 3.0)
BROKEN_S = 180.0
"""Not recovered by then: a violation."""
SNAPSHOT = """
SELECT id, state, attempt, (
    SELECT COALESCE(MAX(events.id), 0) FROM events WHERE events.job_id = jobs.id
    AND events.type IN ('progress', 'checkpoint', 'log') AND CAST(events.data AS TEXT) NOT LIKE '%"output"%'
) AS last_said FROM jobs
"""
"""``last_said``: the last event that came from a training, not from its runner's mouth about a crash."""
Say = Callable[[str], None]


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
    """What a campaign found."""

    plan: dict[str, Any]
    hits: list[Hit] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def draw(plan: Plan, dice: random.Random) -> Iterator[Fault]:
    """Every fault of the column about equally often, in random order."""
    known = {fault.name: fault for fault in of_column(plan.column)}
    if plan.names:
        yield from (known[name] for name in plan.names)
        return
    bag: list[Fault] = []
    for _ in range(plan.faults):
        if not bag:
            bag = list(known.values())
            dice.shuffle(bag)
        yield bag.pop()


def run(plan: Plan, directory: Path, say: Say = lambda _: None) -> Result:
    """Start, shake, check, stop. Raises nothing that a fault does."""
    stack = COLUMNS[plan.column](directory, SHORT if plan.short else FULL, disks=plan.disks)
    result = Result(plan=asdict(plan))
    try:
        stack.start()
        _shake(stack, plan, result, say)
    finally:
        stack.close()
    result.violations += invariants.leftovers(stack)
    return result


def _shake(stack: Stack, plan: Plan, result: Result, say: Say) -> None:
    dice = random.Random(plan.seed)
    load = Load(stack, seed=plan.seed, seeds=plan.seeds, epochs=plan.epochs, in_flight=plan.jobs)
    load.prepare()
    orphans, store = invariants.OrphanWatch(stack), stack.open_store()
    scene = Scene(stack, store, dice)
    load.start()
    began = time.monotonic()
    try:
        for number, fault in enumerate(draw(plan, dice), start=1):
            if time.monotonic() - began > 60 * plan.minutes:
                result.notes["stopped"] = f"after {plan.minutes:g} minutes"
                break
            time.sleep(dice.uniform(*CALM_S) if not plan.short else 0.3)
            hit = inject(fault, scene, load, began)
            result.hits.append(hit)
            say(f"{number:4d} {hit.name:28s} lasted {hit.lasted_s:5.1f} s  recovered {hit.recovery_s:6.1f} s")
            if not hit.recovered:
                result.violations.append(f"{fault.name}: nothing moved for {BROKEN_S:.0f} s")
        load.pause_submissions()
        say("waiting for the last jobs")
        _settle(store, result)
        load.stop()
        result.counts = invariants.check(stack, load)
        result.violations += [*result.counts.pop("violations"), *orphans.close()]
        result.counts |= {"embeddings": load.tally.embedded, "embed_failures": load.tally.embed_failures}
        result.counts |= {"submit_failures": load.tally.submit_failures, "looks_for_orphans": orphans.looks}
        result.counts["seconds"] = round(time.monotonic() - began, 1)
        result.notes |= scene.notes
        if not stack.stop():
            result.violations.append("a part did not leave by itself when the stack was stopped")
        result.violations += invariants.leftovers(stack)
    finally:
        load.stop()
        orphans.close()
        store.close()


def _settle(store: Store, result: Result) -> None:
    """Until every job has ended; those that do not are found by the checks."""
    try:
        wait_for(lambda: not _alive(store), "every job ends", BROKEN_S * 2, every_s=0.5)
    except TimeoutError as error:
        result.violations.append(str(error))


def inject(fault: Fault, scene: Scene, load: Load, began: float) -> Hit:
    """One fault, and how long it took until everything moved again."""
    before = wait_for(lambda: _snapshot(scene.store), "the database", 60)
    start = time.monotonic()
    with fault.injected(scene):
        time.sleep(scene.random.uniform(*fault.hold_s))
    over = time.monotonic()
    moved = _Movement(scene, load, before, needs_queue="redis" in fault.name or "broker" in fault.name)
    try:
        wait_for(moved, f"recovery from {fault.name}", BROKEN_S)
        recovered = True
    except TimeoutError:
        recovered = False
    now = time.monotonic()
    return Hit(
        name=fault.name,
        at_s=round(start - began, 1),
        lasted_s=round(over - start, 2),
        recovery_s=round(now - over, 2),
        outage_s=round(now - start, 2),
        recovered=recovered,
    )


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


def _alive(store: Store) -> bool:
    snapshot = _snapshot(store)
    return not snapshot or any(row.state in ("queued", "running") for row in snapshot["jobs"].values())
