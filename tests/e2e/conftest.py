"""A whole stack, started as a user starts it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

READY = "nidim is ready: "


@contextlib.contextmanager
def stack(data_dir: Path, *options: str) -> Iterator[tuple[str, int]]:
    """``nidim up`` on a free port: its URL and process id. It has to stop cleanly."""
    command = [sys.executable, "-m", "nidim", "up", "--port", "0", "--data-dir", str(data_dir), *options]
    log = data_dir.with_suffix(".log")
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as up,
    ):
        try:
            assert up.stdout is not None
            ready = next((line for line in up.stdout if line.startswith(READY)), None)
            assert ready is not None, log.read_text()
            yield ready.removeprefix(READY).strip(), up.pid
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(90) == 0, log.read_text()


@pytest.fixture(scope="session")
def plain_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a stack without any option, shared by the tests that only add to it."""
    with stack(tmp_path_factory.mktemp("plain") / "data") as (url, _):
        yield url


@pytest.fixture(scope="session")
def start_stack() -> Callable[..., contextlib.AbstractContextManager[tuple[str, int]]]:
    """Start a stack of one's own."""
    return stack
