"""Which failures of embeddings the faults excuse. A fault's window ends where the next one's begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.faults import Fault
from tests.chaos.load import Failure

CALM = "no fault"
Window = tuple[float, Fault]
"""When a fault began, on the clock of ``time.monotonic``."""


def by_fault(failures: Sequence[Failure], windows: Sequence[Window]) -> dict[str, dict[str, int]]:
    """How many failed, of each kind, under each fault; one that lasted over several counts for the last."""
    found: dict[str, Counter[str]] = {}
    for failure in failures:
        name = next((fault.name for fault in reversed(_over(failure, windows))), CALM)
        found.setdefault(name, Counter())[failure.kind] += 1
    return {name: dict(kinds) for name, kinds in sorted(found.items())}


def unexcused(failures: Sequence[Failure], windows: Sequence[Window]) -> Iterator[str]:
    """Those that no fault of their time excuses, in words."""
    for failure in failures:
        during = _over(failure, windows)
        if not any(failure.kind in fault.excuses for fault in during):
            names = ", ".join(fault.name for fault in during) or CALM
            yield f"an embedding {failure.kind} under {names}: {failure.words}"


def _over(failure: Failure, windows: Sequence[Window]) -> list[Fault]:
    ends = [began for began, _ in windows[1:]] + [float("inf")]
    return [
        fault
        for (began, fault), end in zip(windows, ends, strict=True)
        if began <= failure.ended and failure.began <= end
    ]
