"""Ingestion in a process of its own: ``python -m nidim.data.ingest_main --events-fd N``.

A decoder that crashes or hangs on hostile bytes takes this process with it and nothing else. The parent writes one
line of JSON to standard input, ``{path, out, limits, seed, digest, memory_bytes}``, and keeps the pipe open: when it
closes, the parent is gone, and this process leaves. Events go to the descriptor as JSON lines:

    {"type": "progress", "done": 640, "total": 60000}
    {"type": "done"}                                    the index lies at ``out``
    {"type": "failed", "code": "bad_archive", "message": "…"}

The memory bound is RLIMIT_DATA, which counts what is allocated, not what is mapped from files.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from nidim.data.ingestion import ingest
from nidim.data.limits import ImageLimits, OverLimit
from nidim.errors import DataError

EVERY_S = 0.2
"""Between two events of progress."""
NICE = 5
"""Less urgent than the server that answers requests beside it."""

log = logging.getLogger(__name__)


class Events:
    """JSON lines on a descriptor; progress no more often than every EVERY_S."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._next = stream, 0.0

    def send(self, kind: str, **data: Any) -> None:
        self._stream.write(json.dumps({"type": kind, **data}) + "\n")
        self._stream.flush()

    def progress(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + EVERY_S
            self.send("progress", done=done, total=total)


Task = Callable[[dict[str, Any], Events], None]


def main(argv: Sequence[str] | None = None, *, task: Task | None = None) -> int:
    """Run one ingestion, or another ``task`` with a stranger's file; what goes wrong is an event, so the exit status
    is 0 unless the process is killed."""
    parser = argparse.ArgumentParser(description="Ingest one file; see the module's text.")
    parser.add_argument("--events-fd", type=int, required=True)
    with os.fdopen(parser.parse_args(argv).events_fd, "w", encoding="utf-8") as stream:
        events = Events(stream)
        job = json.loads(sys.stdin.buffer.readline())
        _confine(job["memory_bytes"])
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        try:
            (task or _run)(job, events)
        except Exception as exc:
            code, message = classify(exc)
            if not expected(exc):
                log.exception("ingestion failed")
            events.send("failed", code=code, message=message)
    return 0


def classify(exc: Exception) -> tuple[str, str]:
    """The stable code of a failure and what to tell the one who sent the file."""
    if isinstance(exc, OverLimit):
        return "too_large", str(exc)
    if isinstance(exc, DataError):
        return "bad_archive", str(exc)
    if _is_out_of_memory(exc):
        return "too_large", "Reading the file needs more memory than an ingestion may use."
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no_space", "The server's disk is full; try again later."
    return "bad_archive", "The file cannot be read; write it again with a common tool."


def expected(exc: Exception) -> bool:
    """Whether the file is to blame, and known for what it is: nothing that an operator should read about."""
    return isinstance(exc, DataError) or _is_out_of_memory(exc)


def _is_out_of_memory(exc: Exception) -> bool:
    """Also where the stack of a thread found no room, which Python does not call so."""
    return isinstance(exc, MemoryError) or (isinstance(exc, RuntimeError) and "start new thread" in str(exc))


def _run(job: dict[str, Any], events: Events) -> None:
    index = ingest(
        Path(job["path"]),
        limits=ImageLimits(**job["limits"]),
        seed=job["seed"],
        digest=job["digest"],
        progress=events.progress,
    )
    index.write(Path(job["out"]))
    events.send("done")


def _confine(memory_bytes: int) -> None:
    """Bound the memory, leave no core file with somebody's pictures, step behind the server."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    with contextlib.suppress(OSError, ValueError):  # macOS refuses some of these
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        os.nice(NICE)


def _leave_with_parent() -> None:
    """Wait for the end of the lifeline; on the bare descriptor, for a lock held here would block the exit."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
