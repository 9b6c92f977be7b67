"""The leash: ``python leash.py PARENT -- COMMAND…`` becomes COMMAND, but leaves when its parent does.

On Linux the kernel sends SIGTERM to a process whose parent has died (PR_SET_PDEATHSIG), even after a kill -9 of the
parent, and the wish survives ``exec``: so nothing that the launcher started is orphaned. Elsewhere there is no such
call and COMMAND runs without a leash.

References: prctl(2).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def leave_with_parent(parent: int, sig: int = signal.SIGTERM) -> None:
    """Ask for ``sig`` when the parent dies; leave at once if it is gone already. Linux only, else nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(argv: list[str]) -> None:
    """Put on the leash, then become the command."""
    parent, separator, *command = argv
    if separator != "--" or not command:
        sys.exit("usage: leash.py PARENT -- COMMAND…")
    leave_with_parent(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
