"""Upload -> validated index, in a killable process of its own.

    ingest_upload(path, out_dir=…, on_progress=…, cancel=…) -> Index        blocks: call it in a thread

The process (``nidim.data.ingest_main``) is bounded in time and memory, gets none of the service's environment
settings, and reports over a pipe. Whatever an upload does to it, a crash in a codec or an endless loop, ends here as
an :class:`IngestFailed` with a stable code and the HTTP status that fits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from nidim.data.index import Index
from nidim.data.limits import DEFAULT_LIMITS, ImageLimits
from service.environment import without_secrets

Progress = Callable[[int, int | None], None]

INDEX_FILE = "index.json"
INGESTION = "nidim.data.ingest_main"
PREVIEW = "nidim.data.preview_main"
POLL_S = 0.1
"""How soon a cancellation or the deadline is noticed."""
EXIT_S = 5.0
"""For a child that has closed its pipe to be gone by itself."""
STDERR_TAIL = 2000
STATUS = {
    "bad_archive": 422,
    "ingest_timeout": 422,
    "ingest_crashed": 422,
    "too_large": 413,
    "no_space": 507,
    "ingest_cancelled": 409,
}
"""Code of a failure -> HTTP status. What the file does to the process is a fault of the file, never a 5xx."""
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
}
"""Libraries that would otherwise reserve memory by the gigabyte, or threads by the core."""

log = logging.getLogger(__name__)


class IngestFailed(Exception):
    """The upload could not be ingested; ``str()`` says what the sender can do about it.

    ``code`` is one of STATUS, ``status_hint`` its HTTP status.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status_hint = STATUS[code]


def cancelled() -> IngestFailed:
    """Somebody did not want it any more."""
    return IngestFailed("ingest_cancelled", "The ingestion was cancelled.")


def ingest_upload(
    path: Path,
    *,
    out_dir: Path,
    limits: ImageLimits = DEFAULT_LIMITS,
    seed: int = 0,
    digest: str | None = None,
    timeout_s: float = 3600.0,
    memory_bytes: int = 3 * 2**30,
    on_progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Index:
    """Validate the file at ``path`` and write ``out_dir/index.json``; the index is also returned.

    ``digest``: the file's SHA-256 (``sha256:…``) where the caller counted it already. ``on_progress`` is called
    with images done and total (None while unknown), a few times a second, in the calling thread; what it raises
    ends the ingestion. Setting ``cancel`` kills the process within POLL_S.

    Raises IngestFailed. The process is gone when this returns or raises.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    out = out_dir / INDEX_FILE
    job = {
        "path": str(path.resolve()),
        "out": str(out.resolve()),
        "limits": dataclasses.asdict(limits),
        "seed": seed,
        "digest": digest,
        "memory_bytes": memory_bytes,
    }
    run_child(job, deadline=time.monotonic() + timeout_s, on_progress=on_progress, cancel=cancel)
    return Index.read(out)


def run_child(
    job: dict[str, Any],
    *,
    deadline: float,
    module: str = INGESTION,
    on_progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> None:
    """Have a killable process of ``module`` do ``job``, until the monotonic time ``deadline``. Raises IngestFailed."""
    with tempfile.TemporaryFile() as stderr:
        child, events = _start(module, job, stderr)
        watch = _Watch(child, deadline=deadline, cancel=cancel, on_progress=on_progress)
        try:
            with os.fdopen(events, "rb", buffering=0) as pipe:
                watch.follow(pipe)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(EXIT_S)
        finally:
            _end(child)
            _log_stderr(stderr)
    watch.conclude()


def _command(module: str, events_fd: int) -> list[str]:
    return [sys.executable, "-m", module, "--events-fd", str(events_fd)]


def _start(module: str, job: dict[str, Any], stderr: IO[bytes]) -> tuple[subprocess.Popen[bytes], int]:
    """The child, and our end of the pipe that it reports on. Its standard input stays open: its lifeline."""
    ours, theirs = os.pipe()
    try:
        child = subprocess.Popen(
            _command(module, theirs),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(theirs,),
            env=_environment(),
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    with contextlib.suppress(BrokenPipeError):  # it died at once: its closed event pipe tells
        _stdin(child).write(json.dumps(job).encode() + b"\n")
        _stdin(child).flush()
    return child, ours


def _environment() -> dict[str, str]:
    return without_secrets(os.environ) | QUIET


def _stdin(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdin is not None
    return child.stdin


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()
    with contextlib.suppress(BrokenPipeError):
        _stdin(child).close()


def _log_stderr(stderr: IO[bytes]) -> None:
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - STDERR_TAIL))
    if text := stderr.read().decode("utf-8", "replace").strip():
        log.warning("ingestion said: %s", text)


class _Watch:
    """Follows the events of one child until it is done, has failed, is dead, late or cancelled."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        *,
        deadline: float,
        cancel: threading.Event | None,
        on_progress: Progress | None,
    ) -> None:
        self._child, self._deadline, self._cancel = child, deadline, cancel
        self._on_progress = on_progress
        self._done_members = 0
        self._last: dict[str, Any] = {}

    def follow(self, pipe: IO[bytes]) -> None:
        """Read events until the pipe closes; kill the child when it is late or cancelled."""
        rest = b""
        while True:
            self._check_time()
            if not select.select([pipe], [], [], POLL_S)[0]:
                continue
            data = pipe.read(2**16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def conclude(self) -> None:
        """Return when the child said that it is done."""
        if self._last.get("type") == "done":
            return
        if self._last.get("type") == "failed":
            raise IngestFailed(self._last["code"], self._last["message"])
        code = self._child.returncode
        log.error("the ingestion process ended with status %s after %s members", code, self._done_members)
        raise IngestFailed(
            "ingest_crashed",
            f"An image after the first {self._done_members} made the decoder crash; "
            "write the images again with a common tool.",
        )

    def _check_time(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise cancelled()
        if time.monotonic() > self._deadline:
            raise IngestFailed(
                "ingest_timeout",
                f"The ingestion took too long and was stopped after {self._done_members} members; "
                "send a smaller file.",
            )

    def _take(self, event: dict[str, Any]) -> None:
        self._last = event
        if event["type"] == "progress":
            self._done_members = event["done"]
            if self._on_progress is not None:
                self._on_progress(event["done"], event["total"])
