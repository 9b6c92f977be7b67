"""The faults. Each is injected, held for a while and healed; recovery is counted from the moment it is over.

kill_*        SIGKILL: a crash                          term_*     SIGTERM (PostgreSQL: its fast shutdown): a deploy
pause_*       SIGSTOP, seconds, SIGCONT                 full_*     not a byte left on the disk; an S3 that answers 507
empty_redis   Redis loses everything and starts anew    slow_*, hole_*, away_s3    between the stack and that server
clock_*       leases and publications as after a jump of the database's clock by an hour
two_workers   a worker is paused beyond its lease and wakes up when another one has its job

Every fault looks whether it happened: whether the process died or stopped, the disk was full, the proxy was in
somebody's way. One that did not raises NotInjected, is not counted, and is tried again.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from service.store import Store
from tests.chaos.disk import largest_file, limit_files
from tests.chaos.load import Load
from tests.chaos.processes import command_line, send, state, wait_for
from tests.chaos.proxy import Proxy
from tests.chaos.stacks import Embedded, Servers, Stack

HOUR_US = 3_600_000_000
DIES_S = 10.0
LEAVES_S = 60.0
TALKS_S = 30.0


class NotInjected(Exception):
    """The fault did not happen; the words say why."""


@dataclass
class Scene:
    """What a fault works on. ``leaving``: processes that were told to stop, and as what they were called."""

    stack: Stack
    store: Store
    random: random.Random
    load: Load
    notes: dict[str, str] = field(default_factory=dict)
    leaving: dict[int, str] = field(default_factory=dict)

    def one(self, part: str, wait_s: float = 20) -> int:
        """A process of the part, waited for if there is none. Raises NotInjected."""
        return int(self.random.choice(until(lambda: self.stack.pids(part), f"a {part} to hit", wait_s)))

    def stragglers(self) -> list[str]:
        """Those of ``leaving`` that are still there after a minute."""
        told, self.leaving = self.leaving, {}
        with suppress(TimeoutError):
            wait_for(lambda: not any(command_line(pid) == words for pid, words in told.items()), "", LEAVES_S)
        return [words for pid, words in told.items() if command_line(pid) == words]


Act = Callable[[Scene], Iterator[None]]


def until(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    """The first true value of ``condition``. Raises NotInjected."""
    try:
        return wait_for(condition, what, seconds)
    except TimeoutError as error:
        raise NotInjected(str(error)) from error


@dataclass(frozen=True)
class Fault:
    """``act`` yields once: before it the fault begins, after it the fault is over.

    ``excuses``: how an embedding may fail meanwhile, of the kinds of ``load.Failure``; any other is a violation.
    """

    name: str
    act: Act
    hold_s: tuple[float, float] = (0.0, 0.0)
    columns: tuple[str, ...] = ("embedded", "servers")
    excuses: frozenset[str] = frozenset()

    @contextmanager
    def injected(self, scene: Scene) -> Iterator[None]:
        """The fault, as long as the block lasts. Raises NotInjected, at the end too."""
        acting = self.act(scene)
        next(acting)
        try:
            yield
        finally:
            with suppress(StopIteration):
                next(acting)


def _killed(part: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        pid = scene.one(part)
        kill(pid)
        yield

    return act


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is dead. Raises NotInjected."""
    if not command_line(pid) or not send(pid, signal.SIGKILL):
        raise NotInjected("it had ended by itself")
    until(lambda: not command_line(pid), "it dies", DIES_S)


def _told(part: str, number: signal.Signals = signal.SIGTERM) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        tell(scene, scene.one(part), number)
        yield

    return act


def tell(scene: Scene, pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Tell a process to stop. Raises NotInjected."""
    words = command_line(pid)
    if not words or not send(pid, number):
        raise NotInjected("it had ended by itself")
    scene.leaving[pid] = words


def _paused(part: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        pid = scene.one(part)
        pause(pid)
        yield
        still = state(pid) == "T"
        send(pid, signal.SIGCONT)
        if not still:
            raise NotInjected("somebody ended it or woke it up")

    return act


def pause(pid: int) -> None:
    """SIGSTOP, and wait until it has stopped. Raises NotInjected."""
    send(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T", "it stops", 2)


def _empty_redis(scene: Scene) -> Iterator[None]:
    """Stopped first, so that it writes nothing anew between the deletion and its death."""
    pid = scene.one("redis")
    pause(pid)
    directory = scene.stack.redis_directory()
    for path in directory.glob("appendonly*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    left = [path.name for path in directory.glob("appendonly*")]
    kill(pid)
    yield
    if left:
        raise NotInjected(f"{left} was left")


def _backend(scene: Scene) -> Iterator[None]:
    """SIGKILL to one connection of PostgreSQL, upon which it restarts all of them."""
    query = text(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with scene.store.session() as tx:
        pids = list(tx.scalars(query))
    if not pids:
        raise NotInjected("nobody is connected")
    kill(scene.random.choice(pids))
    yield


def _between(server: str, mode: str) -> Act:
    """A mode of the proxy before the ``broker`` or the ``s3``."""

    def act(scene: Scene) -> Iterator[None]:
        proxy = _proxy(scene, server)
        proxy.mode = mode
        try:
            until(lambda: proxy.touched, "somebody talks to it", TALKS_S)
            yield
        finally:
            proxy.mode = "pass"

    return act


def _proxy(scene: Scene, server: str) -> Proxy:
    assert isinstance(scene.stack, Servers)
    return scene.stack.proxies[server]


def _full(disk: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        found = scene.stack.disks.get(disk)
        if found is not None and found.real:
            found.fill()
            full = found.room() == 0
            yield
            found.empty()
            if not full:
                raise NotInjected("somebody had made room")
            return
        scene.notes["full_disk"] = "by RLIMIT_FSIZE; no file system could be mounted"
        pids, size = _writers(scene.stack, disk)
        if not pids:
            raise NotInjected("nobody was there who writes")
        limit_files(pids, size)
        yield
        limit_files(_writers(scene.stack, disk)[0], None)

    return act


def _writers(stack: Stack, disk: str) -> tuple[list[int], int]:
    """Who writes to that disk, and a size beyond which a write must fail."""
    if isinstance(stack, Servers):
        return stack.pids("postgresql"), 1 << 14
    size = largest_file(stack.settings.data_dir / "blobs") // 2 if disk == "blobs" else 1 << 12
    return [pid for part in ("api", "worker") for pid in stack.pids(part)], max(size, 1 << 12)


def _clock(sign: int, *, then_kill: bool) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        until(lambda: _jump(scene, sign * HOUR_US), "a lease to change", 30)
        if then_kill:
            pids = [pid for part in ("worker", "api") for pid in scene.stack.pids(part)]
            for pid in pids:
                send(pid, signal.SIGKILL)
            until(lambda: not any(command_line(pid) for pid in pids), "they die", DIES_S)
        yield

    return act


def _jump(scene: Scene, jump: int) -> int:
    """How many leases of jobs were moved; nothing is, unless there is one."""
    with scene.store.begin() as tx:
        query = f"UPDATE jobs SET lease_until = lease_until + {jump} WHERE state = 'running'"
        found = int(tx.execute(text(query)).rowcount)  # type: ignore[attr-defined]
        if found:
            tx.execute(text(f"UPDATE jobs SET published_at = published_at + {jump}"))
            tx.execute(text(f'UPDATE singletons SET "until" = "until" + {jump}'))
    return found


def _two_workers(scene: Scene) -> Iterator[None]:
    """No other job is submitted meanwhile, so that another worker is free to take this one."""
    job_id, fence, pid = _stopped_at_work(scene)
    scene.load.pause_submissions()
    try:
        taken = until(
            lambda: _taken(scene, job_id, fence), "another worker takes it", scene.stack.lease_s * 2 + 30
        )
        if taken != "running":
            raise NotInjected(f"the job is {taken}")
        yield
    finally:
        still = state(pid) == "T"
        send(pid, signal.SIGCONT)
        scene.load.resume_submissions()
    if not still:
        raise NotInjected("the first worker had not slept until then")


def _stopped_at_work(scene: Scene) -> tuple[str, int, int]:
    """A running job, its fence and its worker, which has been stopped in the middle of it."""
    query = text("SELECT id, fence, lease_owner FROM jobs WHERE state = 'running' AND cancel_requested = :no")
    for _ in range(5):
        rows = until(lambda: _rows(scene, query, no=False), "a running job", 30)
        job_id, fence, owner = scene.random.choice(rows)
        pid = int(owner.rsplit(":", 1)[1])
        if state(pid) in ("", "Z", "T"):
            continue
        pause(pid)
        if any(row == (job_id, fence, owner) for row in _rows(scene, query, no=False)):
            return job_id, fence, pid
        send(pid, signal.SIGCONT)
    raise NotInjected("no worker could be stopped in the middle of a job")


def _rows(scene: Scene, query: Any, **values: Any) -> list[Any]:
    with scene.store.session() as tx:
        return [tuple(row) for row in tx.execute(query, values)]


def _taken(scene: Scene, job_id: str, fence: int) -> str:
    """The job's state once another worker has it, or if it has ended otherwise; else nothing."""
    query = text("SELECT fence, state FROM jobs WHERE id = :id")
    now, state_ = _rows(scene, query, id=job_id)[0]
    return state_ if (now > fence and state_ == "running") or state_ not in ("running", "queued") else ""


def _deploy(scene: Scene) -> Iterator[None]:
    """The whole stack is told to stop, and started again."""
    stack = scene.stack
    if isinstance(stack, Embedded):
        stack.process.send_signal(signal.SIGTERM)
        stack.process.wait(120)
        stack.start_again(stack.url.rsplit(":", 1)[1])
    else:
        assert isinstance(stack, Servers)
        for part in ("api", "worker"):
            for pid in stack.pids(part):
                tell(scene, pid)
                time.sleep(1.0)
    yield


ONLY_SERVERS = ("servers",)
ONLY_EMBEDDED = ("embedded",)
CRASH = frozenset({"refused", "reset", "cut", "late", "unavailable"})
"""SIGKILL of an API process takes along what it works on."""
OUTAGE = frozenset({"unavailable"})
NOBODY_LISTENS = frozenset({"refused", "reset"})
"""``nidim up`` closes its socket when it leaves, and with it the connections that no process has accepted."""
S3 = {"columns": ONLY_SERVERS, "excuses": OUTAGE}
DATABASE = {"columns": ONLY_SERVERS, "excuses": OUTAGE}
FAULTS = (
    Fault("kill_api", _killed("api"), excuses=CRASH),
    *(Fault(f"kill_{part}", _killed(part)) for part in ("worker", "forkserver", "training", "redis")),
    *(Fault(f"term_{part}", _told(part)) for part in ("api", "worker", "training", "redis")),
    Fault("kill_postgresql", _killed("postgresql"), **DATABASE),
    Fault("kill_postgresql_connection", _backend, **DATABASE),
    Fault("term_postgresql", _told("postgresql", signal.SIGINT), **DATABASE),
    Fault("pause_postgresql", _paused("postgresql"), hold_s=(2, 6), **DATABASE),
    Fault("pause_redis", _paused("redis"), hold_s=(2, 6)),
    Fault("empty_redis", _empty_redis),
    Fault("slow_broker", _between("broker", "slow"), hold_s=(3, 6), columns=ONLY_SERVERS),
    Fault("hole_broker", _between("broker", "hole"), hold_s=(3, 6), columns=ONLY_SERVERS),
    Fault("pause_s3", _paused("s3"), hold_s=(3, 6), **S3),
    *(
        Fault(f"{mode}_s3", _between("s3", mode), hold_s=(3, 6), **S3)
        for mode in ("slow", "hole", "away", "full")
    ),
    Fault("full_blobs", _full("blobs"), hold_s=(3, 8), columns=ONLY_EMBEDDED),
    Fault("full_database", _full("database"), hold_s=(3, 8), excuses=OUTAGE),
    Fault("clock_forward", _clock(-1, then_kill=False)),
    Fault("clock_back_and_kill", _clock(1, then_kill=True), excuses=CRASH),
    Fault("two_workers", _two_workers),
    Fault("deploy", _deploy, columns=ONLY_SERVERS),
    Fault("deploy", _deploy, columns=ONLY_EMBEDDED, excuses=NOBODY_LISTENS),
)


def of_column(column: str) -> list[Fault]:
    """The faults that this column can have."""
    return [fault for fault in FAULTS if column in fault.columns]
