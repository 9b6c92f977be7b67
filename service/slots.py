"""Training slots: how many trainings run side by side on this machine, and on which GPU each. No torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def visible_gpus(env: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that trainings may use, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE in env:
        names = (name.strip() for name in env[VISIBLE].split(","))
        return tuple(name for name in names if name and name != "-1")
    return tuple(str(number) for number in range(_count_gpus()))


def _count_gpus() -> int:
    """GPUs that the driver lists; without its tool, the device files it made."""
    tool = shutil.which("nvidia-smi")
    if tool:
        try:
            listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return 0
        return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia[0-9]*"))


def assign(workers: int | None, gpus: tuple[str, ...], env: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """The environment of each slot: one per GPU unless told otherwise, else one; more slots share GPUs and cores."""
    count = workers if workers is not None else max(1, len(gpus))
    shared = (
        {THREADS: str(max(1, (os.cpu_count() or 1) // count))} if count > 1 and THREADS not in env else {}
    )
    devices = [{VISIBLE: gpus[slot % len(gpus)]} if gpus else {} for slot in range(count)]
    return tuple({**device, **shared} for device in devices)
