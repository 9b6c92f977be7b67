"""``kill -USR1 PID``: a process that seems to hang says in its log where it is, and goes on.

Every thread by its Python frames, every task of the event loop by its own. It is told by a thread of its own, so it
does not matter what the event loop is held up with, as long as that is Python or a wait that a signal ends.
faulthandler would see more, but reads the frames of threads while they run: asked often, processes died of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def told_on_request() -> Iterator[None]:
    """Within, SIGUSR1 is answered in the log; outside of a main thread, and where there is no such signal, never."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: object) -> None:
        threading.Thread(target=_tell, args=(loop,), name="whereabouts").start()

    former = signal.signal(number, handle)
    try:
        yield
    finally:
        # it may come until the end, and by default a process dies of it
        signal.signal(number, signal.SIG_IGN if former is signal.SIG_DFL else former)


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    tasks = [_stack(task) for task in asyncio.all_tasks(loop)]
    told = "".join(threads + tasks)
    logger.warning("asked where this process is: %d threads, %d tasks\n%s", len(threads), len(tasks), told)


def _stack(task: asyncio.Task[object]) -> str:
    text = io.StringIO()
    task.print_stack(file=text)
    return text.getvalue()
