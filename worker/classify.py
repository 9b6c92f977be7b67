"""What an end means: try again, or fail at once and say why. Pure; no service, no torch."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

LONGEST_MESSAGE = 2000
ADVICE_MEMORY = "Use a smaller batch_size, image_size or encoder, or a machine with more memory."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``retry``: another attempt may end otherwise. ``code`` is stable, ``message`` is for the person who asked."""

    retry: bool
    code: str
    message: str


ADVICE_DISK = "Whoever runs the server has to make room; then retry the job."
MEMORY = (
    r"out of memory",
    r"memoryerror",
    r"can't allocate memory",  # torch's CPU allocator
    r"cannot allocate memory",  # ENOMEM
    r"bad_alloc",  # C++
    r"memory allocation of \d+ bytes failed",  # Rust, as safetensors is written in
    r"could not create a primitive(?! descriptor)",  # oneDNN; what it cannot compute fails at the descriptor
)
"""Words, in lower case, by which an end for want of memory is known; regular expressions."""
PERMANENT = {
    "SpecError": "spec_error",
    "ValidationError": "spec_error",  # pydantic's
    "DatasetUnavailable": "dataset_unavailable",
    "SourceGone": "source_gone",
    "DataError": "data_error",
    "TrainingDiverged": "training_diverged",
    "CheckpointError": "checkpoint_error",
    "BundleError": "bundle_error",
    "NidimError": "nidim_error",
}
"""Errors after which the same input ends in the same way every time, by class name: nothing is imported for them."""


def classify(error: BaseException) -> Verdict:
    """The verdict over an exception of a training or of what surrounds it."""
    names = [kind.__name__ for kind in type(error).__mro__]
    for name in names:
        if name in PERMANENT:
            return Verdict(retry=False, code=PERMANENT[name], message=public(str(error)))
    if "OutOfMemoryError" in names or "MemoryError" in names or _is_about_memory(str(error)):
        return out_of_memory("The training ran out of memory.")
    if "no space left on device" in str(error).lower():
        return Verdict(retry=True, code="disk_full", message=f"The disk of the worker is full. {ADVICE_DISK}")
    return Verdict(retry=True, code="internal", message=public(f"{type(error).__name__}: {error}"))


def classify_exit(code: int, words: str, *, oom_killed: bool = False) -> Verdict:
    """The verdict over a child that left without a result: its exit status and the last it printed.

    ``oom_killed``: the kernel ended processes for want of memory while it ran.
    """
    if _is_about_memory(words):
        return out_of_memory("The training ran out of memory.")
    if code == -signal.SIGKILL and oom_killed:
        return out_of_memory("The kernel ended the training because the machine's memory ran out.")
    if code == -signal.SIGKILL:
        detail = (
            "The training process was killed from outside (SIGKILL); the kernel reports no want of memory. If a "
            f"container or job scheduler limits its memory, that may be the reason. {ADVICE_MEMORY}"
        )
        return Verdict(retry=True, code="killed", message=detail)
    last = last_line(words)
    said = f"; its last words: {last}" if last else ""
    return Verdict(
        retry=True, code="crashed", message=f"The training process ended with {_status(code)}{said}"
    )


def out_of_memory(what: str) -> Verdict:
    """Another attempt may find more memory free."""
    return Verdict(retry=True, code="out_of_memory", message=f"{what} {ADVICE_MEMORY}")


def _is_about_memory(words: str) -> bool:
    lower = words.lower()
    return any(re.search(sign, lower) for sign in MEMORY)


def _status(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def out_of_attempts(verdict: Verdict, attempts: int) -> Verdict:
    """The verdict when this was the last of too many attempts without progress."""
    message = f"{attempts} attempts in a row ended without a new checkpoint; the last one: {verdict.message}"
    return Verdict(retry=False, code=verdict.code, message=message[:LONGEST_MESSAGE])


FAULT = "Fatal Python error: "
"""Below this line Python's fault handler prints stacks and the names of modules."""


def last_line(text: str) -> str:
    """The last line that says something, fit for a client."""
    said, fault, dump = text.partition(FAULT)
    lines = [line.strip() for line in (said + fault + dump.partition("\n")[0]).splitlines() if line.strip()]
    return public(lines[-1]) if lines else ""


def public(message: str) -> str:
    """The message without the directories of this machine, and of bounded length."""
    return re.sub(r"(?<![\w:/.])(?:/[\w.+@~-]+)+/(?=[\w.])", "", message)[:LONGEST_MESSAGE]
