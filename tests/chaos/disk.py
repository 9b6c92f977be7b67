"""Disks that can be filled: a small memory file system where it may be mounted, else a limit on file sizes.

Mounting needs rights that a test machine may not give. Then ``RLIMIT_FSIZE`` of the running processes is lowered: the
kernel itself refuses their writes (EFBIG instead of ENOSPC), for blobs and database alike.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterable
from pathlib import Path


class Disk:
    """A directory on a disk of its own, if that can be had; ``real`` says so, ``reason`` why not."""

    def __init__(self, directory: Path, *, megabytes: int) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nidim-chaos", str(directory)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.real = mounted.returncode == 0
        self.reason = mounted.stderr.strip()
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._ballast.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(b"\0"):
                pass

    def room(self) -> int:
        """Bytes that are free."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        self.empty()
        if self.real:
            subprocess.run(["umount", "--lazy", str(self.directory)], check=False, capture_output=True)


def limit_files(pids: Iterable[int], size: int | None) -> None:
    """Refuse every write beyond ``size`` bytes of a file in these processes; None takes the limit away."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            soft = hard if size is None else size
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def largest_file(directory: Path) -> int:
    """Bytes of the largest file below ``directory``."""
    sizes = [0]
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append((Path(folder) / name).stat().st_size)
    return max(sizes)
