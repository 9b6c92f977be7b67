"""A file or folder of a cache in use: a shared lock on it, which whoever empties the cache respects.

The lock is the kernel's and belongs to this process; if it is killed the entry is free at once. With ``touch`` a use
sets the entry's time too, so that what was used longest ago is known.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def hold_while(path: Path, user: Any) -> None:
    """Hold ``path`` as long as ``user`` lives, an array mapped from it. Raises FileNotFoundError if it is gone."""
    weakref.finalize(user, os.close, take(path))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold ``path`` within the block. Raises FileNotFoundError if it is gone."""
    descriptor = take(path)
    try:
        yield
    finally:
        os.close(descriptor)


def take(path: Path, *, touch: bool = False) -> int:
    """A descriptor that holds ``path`` until it is closed. Raises FileNotFoundError if it is gone."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        _lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path)  # it lost its name while we waited for the lock
        if touch:
            with suppress(PermissionError):
                os.utime(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing empties a cache there
        return
    fcntl.flock(descriptor, fcntl.LOCK_SH)
