"""One stack per data directory: two locks that the kernel releases when their holders have left.

``stack.lock`` belongs to the launcher: a second one is refused at once. ``parts.lock`` is inherited by every part: if
a launcher was killed, its parts may need some seconds to leave, and the next one waits for them, because two Redis
servers must never write the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path


class AlreadyRunning(Exception):
    """Another stack uses this data directory; stop it first, or give another --data-dir."""


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Be the only launcher of ``data_dir``. Raises AlreadyRunning."""
    fd = _open(data_dir / "stack.lock")
    try:
        if not _try_lock(fd):
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunning(
                f"Another stack (pid {holder}) uses {data_dir}; stop it first, or give another --data-dir."
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def hold_for_parts(data_dir: Path, *, wait_s: float, waiting: Callable[[], None]) -> Iterator[int]:
    """The descriptor that every part inherits. Raises AlreadyRunning if parts of a former stack do not leave."""
    fd = _open(data_dir / "parts.lock")
    try:
        deadline = time.monotonic() + wait_s
        if not _try_lock(fd):
            waiting()
            while not _try_lock(fd):
                if time.monotonic() > deadline:
                    raise AlreadyRunning(f"Parts of a former stack still use {data_dir}; end them first.")
                time.sleep(0.1)
        yield fd
    finally:
        os.close(fd)
