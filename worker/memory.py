"""Memory that runs out: whom the kernel should end first, and whether it did.

A process that the kernel ends for want of memory dies of SIGKILL, like one that a person kills. Linux counts such
ends; a count that rose while the training lived tells the two apart, almost always: somebody may have killed the
training by hand in the same seconds in which the kernel ended another process.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

VMSTAT = Path("/proc/vmstat")
OWN_SCORE = Path("/proc/self/oom_score_adj")
FIRST = 500
"""Of 1000: a training goes before the server, the worker or the database of the same machine."""


def oom_kills(vmstat: Path = VMSTAT) -> int:
    """How many processes the kernel of this machine has ended for want of memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in vmstat.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def go_first(score: Path = OWN_SCORE) -> None:
    """Ask the kernel to end this process and its children before others. Anybody may ask for that; Linux only."""
    with contextlib.suppress(OSError):
        score.write_text(f"{FIRST}\n")
