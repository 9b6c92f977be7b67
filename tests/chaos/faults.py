"""The faults. Each is injected, held for a while and healed; recovery is counted from the moment it is over.

kill_*        SIGKILL: a crash                          term_*     SIGTERM (PostgreSQL: its fast shutdown): a deploy
pause_*       SIGSTOP, seconds, SIGCONT                 full_*     not a byte left on the disk
empty_redis   Redis loses everything and starts anew    slow_, hole_broker   between the stack and Redis
clock_*       leases and publications as after a jump of the database's clock by an hour
two_workers   a worker is paused beyond its lease and wakes up when another one has its job
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import text

from service.store import Store
from tests.chaos.disk import largest_file, limit_files
from tests.chaos.processes import send, wait_for
from tests.chaos.stacks import Embedded, Servers, Stack

HOUR_US = 3_600_000_000


@dataclass
class Scene:
    """What a fault works on."""

    stack: Stack
    store: Store
    random: random.Random
    notes: dict[str, str] = field(default_factory=dict)

    def one(self, part: str, wait_s: float = 20) -> int:
        """A process of the part, waited for if there is none. Raises TimeoutError."""
        return self.random.choice(wait_for(lambda: self.stack.pids(part), f"a {part} to hit", wait_s))


Act = Callable[[Scene], Iterator[None]]


@dataclass(frozen=True)
class Fault:
    """``act`` yields once: before it the fault begins, after it the fault is over."""

    name: str
    act: Act
    hold_s: tuple[float, float] = (0.0, 0.0)
    columns: tuple[str, ...] = ("embedded", "servers")

    @contextmanager
    def injected(self, scene: Scene) -> Iterator[None]:
        """The fault, as long as the block lasts."""
        acting = self.act(scene)
        next(acting)
        try:
            yield
        finally:
            with suppress(StopIteration):
                next(acting)


def _signalled(part: str, number: signal.Signals) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        send(scene.one(part), number)
        yield

    return act


def _paused(part: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        pid = scene.one(part)
        send(pid, signal.SIGSTOP)
        yield
        send(pid, signal.SIGCONT)

    return act


def _empty_redis(scene: Scene) -> Iterator[None]:
    pid = scene.one("redis")
    directory = scene.stack.redis_directory()
    for path in directory.glob("appendonly*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    send(pid, signal.SIGKILL)
    yield


def _backend(scene: Scene) -> Iterator[None]:
    """SIGKILL to one connection of PostgreSQL, upon which it restarts all of them."""
    query = text(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with scene.store.session() as tx:
        pids = list(tx.scalars(query))
    if pids:
        send(scene.random.choice(pids), signal.SIGKILL)
    yield


def _broker(mode: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        assert isinstance(scene.stack, Servers)
        scene.stack.proxy.mode = mode
        yield
        scene.stack.proxy.mode = "pass"

    return act


def _full(disk: str) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        found = scene.stack.disks.get(disk)
        if found is not None and found.real:
            found.fill()
            yield
            found.empty()
            return
        scene.notes["full_disk"] = "by RLIMIT_FSIZE; no file system could be mounted"
        pids, size = _writers(scene.stack, disk)
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
        jump = sign * HOUR_US
        with scene.store.begin() as tx:
            tx.execute(text(f"UPDATE jobs SET lease_until = lease_until + {jump}"))
            tx.execute(text(f"UPDATE jobs SET published_at = published_at + {jump}"))
            tx.execute(text(f'UPDATE singletons SET "until" = "until" + {jump}'))
        if then_kill:
            for part in ("worker", "api"):
                for pid in scene.stack.pids(part):
                    send(pid, signal.SIGKILL)
        yield

    return act


def _two_workers(scene: Scene) -> Iterator[None]:
    query = text("SELECT id, fence, lease_owner FROM jobs WHERE state = 'running' ORDER BY id LIMIT 1")

    def running() -> object:
        with scene.store.session() as tx:
            return tx.execute(query).first()

    job_id, fence, owner = wait_for(running, "a running job", 30)  # type: ignore[misc]
    pid = int(owner.rsplit(":", 1)[1])
    if not send(pid, signal.SIGSTOP):
        yield
        return

    def taken() -> bool:
        with scene.store.session() as tx:
            now = tx.execute(text("SELECT fence, state FROM jobs WHERE id = :id"), {"id": job_id}).one()
        return bool(now.fence > fence or now.state not in ("running", "queued"))

    with suppress(TimeoutError):  # every other worker may be busy with another job
        wait_for(taken, "another worker takes the job", scene.stack.lease_s * 2 + 20)
    yield
    send(pid, signal.SIGCONT)


def _deploy(scene: Scene) -> Iterator[None]:
    """The whole stack is told to stop, and started again."""
    stack = scene.stack
    if isinstance(stack, Embedded):
        stack.process.send_signal(signal.SIGTERM)
        stack.process.wait(120)
        port = stack.url.rsplit(":", 1)[1]
        stack.start_again(port)
    else:
        assert isinstance(stack, Servers)
        for part in ("api", "worker"):
            for pid in stack.pids(part):
                send(pid, signal.SIGTERM)
                time.sleep(1.0)
    yield


ONLY_SERVERS = ("servers",)
ONLY_EMBEDDED = ("embedded",)
FAULTS = (
    *(
        Fault(f"kill_{part}", _signalled(part, signal.SIGKILL))
        for part in ("api", "worker", "training", "redis")
    ),
    *(
        Fault(f"term_{part}", _signalled(part, signal.SIGTERM))
        for part in ("api", "worker", "training", "redis")
    ),
    Fault("kill_postgresql", _signalled("postgresql", signal.SIGKILL), columns=ONLY_SERVERS),
    Fault("kill_postgresql_connection", _backend, columns=ONLY_SERVERS),
    Fault("term_postgresql", _signalled("postgresql", signal.SIGINT), columns=ONLY_SERVERS),
    Fault("pause_redis", _paused("redis"), hold_s=(2, 6)),
    Fault("pause_postgresql", _paused("postgresql"), hold_s=(2, 6), columns=ONLY_SERVERS),
    Fault("empty_redis", _empty_redis),
    Fault("slow_broker", _broker("slow"), hold_s=(3, 6), columns=ONLY_SERVERS),
    Fault("hole_broker", _broker("hole"), hold_s=(3, 6), columns=ONLY_SERVERS),
    Fault("full_blobs", _full("blobs"), hold_s=(3, 8), columns=ONLY_EMBEDDED),
    Fault("full_database", _full("database"), hold_s=(3, 8)),
    Fault("clock_forward", _clock(-1, then_kill=False)),
    Fault("clock_back_and_kill", _clock(1, then_kill=True)),
    Fault("two_workers", _two_workers),
    Fault("deploy", _deploy),
)


def of_column(column: str) -> list[Fault]:
    """The faults that this column can have."""
    return [fault for fault in FAULTS if column in fault.columns]
