"""Training slots: how many trainings run side by side on this machine, and on which GPU each. No torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


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


def assign(workers: int | None, gpus: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    """The environment of each slot: one per GPU unless told otherwise, else one; more slots share the GPUs."""
    count = workers if workers is not None else max(1, len(gpus))
    if not gpus:
        return tuple({} for _ in range(count))
    return tuple({VISIBLE: gpus[slot % len(gpus)]} for slot in range(count))
