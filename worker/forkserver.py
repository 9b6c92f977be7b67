"""A process that has imported what trainings need, and becomes one on request: ``python -m worker.forkserver``.

Importing torch, SciPy and the rest takes seconds; a fork takes milliseconds. Each request is one message on a socket:
the arguments of ``worker.child`` as JSON, with the descriptors that a training has. It trains in a fork, in a session
of its own, so that this process stays as it was: no thread of mathematics is started here and no GPU is touched, which
would not survive a fork. One training at a time, as everywhere in a slot. On the descriptor ``status`` the training
says its process id and, when it has ended, this process its exit status.

It leaves when the socket is closed, and with the worker however that dies; its training goes with it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Sequence

from worker.guard import ORPHANED, leave_with_parent

log = logging.getLogger("worker.forkserver")

NEEDED = ("nidim.pipeline", "nidim.generate.pipeline", "matplotlib.backends.backend_svg")
EXPORTER = ("torch._dynamo",)
"""What writing model.onnx needs beside them: two more seconds and 67 MB."""
DESCRIPTORS = 4
"""status, events, lifeline, log."""
WORD = struct.Struct("!cq")
STARTED, ENDED = b"s", b"e"
"""Words on ``status``: started, with the process id; ended, with the exit status, negative for a signal."""
LONGEST_REQUEST = 1 << 16


def main(argv: list[str] | None = None) -> int:
    """Serve until nobody asks any more; in a fork, train. The exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.forkserver")
    parser.add_argument("--requests-fd", type=int, required=True)
    parser.add_argument("--exports", action="store_true", help="its trainings write model.onnx")
    given = parser.parse_args(argv)
    leave_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=given.requests_fd) as requests:
        preload((*NEEDED, *EXPORTER) if given.exports else NEEDED)
        arguments = serve(requests)
    if arguments is None:
        return 0
    from worker import child

    return child.main(arguments)


def preload(names: Sequence[str]) -> None:
    """Import what is needed. What cannot be imported the training will complain of, where it is heard."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            log.exception("%s is not imported ahead", name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it looks at


def serve(requests: socket.socket) -> list[str] | None:
    """Fork for each request: in the fork the arguments of its training, here None once the socket is closed."""
    while True:
        data, fds, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, DESCRIPTORS)
        if not data:
            return None
        status, events, lifeline, output = fds
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(server, status, output)
            return [*json.loads(data), "--events-fd", str(events), "--lifeline-fd", str(lifeline)]
        for fd in (events, lifeline, output):
            os.close(fd)
        _, ended = os.waitpid(pid, 0)
        _tell(status, ENDED, os.waitstatus_to_exitcode(ended))
        os.close(status)


def _become(server: int, status: int, output: int) -> None:
    """A process like one that was started afresh: a leader, with an output of its own."""
    os.setsid()
    leave_with_parent()
    if os.getppid() != server:
        os._exit(ORPHANED)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output, stream.fileno())
    os.close(output)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _tell(status, STARTED, os.getpid())
    os.close(status)


def _tell(status: int, kind: bytes, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked may be gone
        os.write(status, WORD.pack(kind, number))


if __name__ == "__main__":
    warnings.simplefilter("default")
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
