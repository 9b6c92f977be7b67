"""Guard: how a training process ends before its end.

    the runner dies     its end of the lifeline pipe closes: leave at once, whatever the main thread is doing
    SIGTERM             while steps are being trained: finish the step, write a checkpoint, leave;
                        at any other time (imports, reading data, evaluating) there is nothing to save: leave at once

A thread watches both, because a signal handler in Python waits until the main thread comes back from C code.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable

ORPHANED, STOPPED = 70, 0
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
NAME = "nidim-training"
"""A training in lists of processes; fifteen letters at most."""


class Guard:
    """Watches from its creation on, which must be in the main thread; ``farewell`` is called before leaving."""

    def __init__(self, lifeline_fd: int, *, farewell: Callable[[], None]) -> None:
        os.set_inheritable(lifeline_fd, False)
        self._farewell, self._lifeline = farewell, lifeline_fd
        self._lock = threading.Lock()
        self._training = self._asked = False
        self._wakeup, wakeup_in = os.pipe()
        os.set_blocking(wakeup_in, False)
        signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch, name="guard", daemon=True).start()

    def asked_to_stop(self) -> bool:
        """Whether SIGTERM came."""
        return self._asked

    def training(self, now: bool) -> None:
        """Say whether steps are being trained; leaves if a SIGTERM came and they no longer are."""
        with self._lock:
            self._training = now
            leave = self._asked and not now
        if leave:
            self._leave()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for fd in (self._lifeline, self._wakeup):
                selector.register(fd, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._lifeline in ready and not os.read(self._lifeline, 1):
                    os._exit(ORPHANED)
                if self._wakeup in ready and signal.SIGTERM in os.read(self._wakeup, 64):
                    self._sigterm()

    def _sigterm(self) -> None:
        with self._lock:
            self._asked = True
            leave = not self._training
        if leave:
            self._leave()

    def _leave(self) -> None:
        self._farewell()
        os._exit(STOPPED)


def leave_with_parent() -> None:
    """A second lifeline for a process stuck in C code: on Linux the kernel kills it when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def take_name() -> None:
    """Be told apart by ``ps`` and ``top``, also in a fork, whose command line is that of its parent. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NAME, NAME.encode(), 0, 0, 0)
